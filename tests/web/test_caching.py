"""Entity tags and conditional requests."""

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
        (f'"x",{ETAG},"y"', True, True),
        (f'"x" , W/{ETAG}', False, True),
        ("*", True, True),
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


def test_what_the_client_has_is_not_sent() -> None:
    etag = etag_of(b"{}")
    for condition, status, body in [(etag, 304, b""), ('"x"', 200, b"{}")]:
        headers = [(b"if-none-match", condition.encode())]
        request = Request({"type": "http", "headers": headers})
        response = cacheable_json(request, b"{}", cache_control="private, no-cache")
        assert (response.status_code, response.body) == (status, body)
        assert response.headers["etag"] == etag
        assert response.headers["cache-control"] == "private, no-cache"
