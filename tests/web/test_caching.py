"""Entity tags and conditional requests."""

import time

import pytest
from starlette.requests import Request

from authapi.web.caching import cacheable_json, etag_of, matches

ETAG = '"0123456789abcdef"'


def test_an_entity_tag_is_a_strong_one_of_the_bytes() -> None:
    assert etag_of(b"a") == etag_of(b"a") != etag_of(b"b")
    assert etag_of(b"")[0] == etag_of(b"")[-1] == '"'
    assert '"' not in etag_of(b"")[1:-1]


@pytest.mark.parametrize(
    ("header", "strong", "weak"),
    [
        (None, False, False),
        ("", False, False),
        (ETAG, True, True),
        (f"  {ETAG}  ", True, True),
        (f"W/{ETAG}", False, True),
        (f"w/{ETAG}", False, False),
        (f"W/ {ETAG}", False, False),
        (f'W/"x",{ETAG}', True, True),
        (f'"x",{ETAG},"y"', True, True),
        (f'"x" , W/{ETAG}', False, True),
        ("*", True, True),
        (" *\t", True, True),
        # `*` stands alone.
        (f"*, {ETAG}", False, False),
        (f"{ETAG}, *", False, False),
        ("*, *", False, False),
        ("**", False, False),
        ("W/*", False, False),
        # Empty elements are none.
        (f",, {ETAG} ,", True, True),
        (", ,", False, False),
        # A comma inside of the quotes belongs to the tag.
        (f'"a,b", {ETAG}', True, True),
        (f'"a, {ETAG[1:]}', False, False),
        (f'"a,{ETAG}', False, False),
        (f'"a, ", {ETAG}', False, False),  # no tag holds a space
        (f'"\u00e9", {ETAG}', True, True),
        # What is no list of tags names none, wherever it is wrong.
        (f'"x" {ETAG}', False, False),
        (f"x, {ETAG}", False, False),
        (f"{ETAG}, x", False, False),
        (f"{ETAG};q=1", False, False),
        (f"'x', {ETAG}", False, False),
        ('"*"', False, False),
        (ETAG.strip('"'), False, False),
        (ETAG.upper(), False, False),
        (f"{ETAG}{ETAG}", False, False),
        ('"x","y"', False, False),
    ],
)
def test_which_conditions_match(header: str | None, strong: bool, weak: bool) -> None:
    assert matches(header, ETAG, weak=False) is strong
    assert matches(header, ETAG, weak=True) is weak


@pytest.mark.parametrize("text", [" " * 30000 + "x", '"' + "a" * 30000, "," * 30000 + "x"])
def test_a_long_condition_costs_no_more_than_its_length(text: str) -> None:
    began = time.process_time()
    assert not matches(text, ETAG, weak=True)
    assert time.process_time() - began < 0.5


def test_several_lines_are_one_list() -> None:
    etag = etag_of(b"{}")
    for lines, status in (
        (['"x"', etag], 304),
        ([etag, '"x"'], 304),
        (['"x"', "", f"W/{etag}"], 304),
        (['"x"', '"y"'], 200),
        (["*", '"y"'], 200),
        (["*"], 304),
    ):
        headers = [(b"if-none-match", line.encode()) for line in lines]
        request = Request({"type": "http", "headers": headers})
        answer = cacheable_json(request, b"{}", cache_control="no-cache")
        assert answer.status_code == status, lines


def test_what_the_client_has_is_not_sent() -> None:
    etag = etag_of(b"{}")
    for condition, status, body in [(etag, 304, b""), ('"x"', 200, b"{}")]:
        headers = [(b"if-none-match", condition.encode())]
        request = Request({"type": "http", "headers": headers})
        response = cacheable_json(request, b"{}", cache_control="private, no-cache")
        assert (response.status_code, response.body) == (status, body)
        assert response.headers["etag"] == etag
        assert response.headers["cache-control"] == "private, no-cache"
