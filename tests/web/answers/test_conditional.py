"""Entity tags and conditional requests."""

import time

import pytest
from starlette.requests import Request

from authapi.web.answers.conditional import (
    Representation,
    conditional_response,
    etag_of,
    matches,
)

EMPTY = Representation.of(b"{}")
ETAG = '"0123456789abcdef"'


def test_entity_tag_is_strong_and_depends_on_the_bytes() -> None:
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
        # Empty elements are ignored.
        (f",, {ETAG} ,", True, True),
        (", ,", False, False),
        # A comma inside the quotes belongs to the tag.
        (f'"a,b", {ETAG}', True, True),
        (f'"a, {ETAG[1:]}', False, False),
        (f'"a,{ETAG}', False, False),
        (f'"a, ", {ETAG}', False, False),  # a tag contains no space
        (f'"\u00e9", {ETAG}', True, True),
        # A malformed list matches nothing, wherever the error is.
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
def test_conditions_match_as_in_rfc_9110(header: str | None, strong: bool, weak: bool) -> None:
    assert matches(header, ETAG, weak=False) is strong
    assert matches(header, ETAG, weak=True) is weak


@pytest.mark.parametrize("text", [" " * 30000 + "x", '"' + "a" * 30000, "," * 30000 + "x"])
def test_long_condition_is_parsed_in_linear_time(text: str) -> None:
    began = time.process_time()
    assert not matches(text, ETAG, weak=True)
    assert time.process_time() - began < 0.5


def test_several_header_lines_form_one_list() -> None:
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
        answer = conditional_response(request, EMPTY, cache_control="no-cache")
        assert answer.status_code == status, lines


def test_matching_etag_returns_304_without_a_body() -> None:
    etag = etag_of(b"{}")
    for condition, status, body in [(etag, 304, b""), ('"x"', 200, b"{}")]:
        headers = [(b"if-none-match", condition.encode())]
        request = Request({"type": "http", "headers": headers})
        response = conditional_response(request, EMPTY, cache_control="private, no-cache")
        assert (response.status_code, response.body) == (status, body)
        assert response.headers["etag"] == etag
        assert response.headers["cache-control"] == "private, no-cache"
