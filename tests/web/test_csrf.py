"""The rule itself: which request another origin's page is behind."""

from collections.abc import Callable

import pytest
from starlette.requests import HTTPConnection

from authapi import AuthAPI, Settings
from authapi.errors import ForeignOrigin, WrongDestination
from authapi.web.context import RequestContext
from authapi.web.csrf import check_ambient, check_origin, is_foreign

Ask = Callable[..., HTTPConnection]

OWN = "https://id.example.com"
ALLOWED = "https://app.example.com"


@pytest.fixture
def ask() -> Ask:
    """A connection to a service at OWN that allows ALLOWED."""
    settings = Settings(public_url=f"{OWN}/auth", allowed_origins=(ALLOWED,))
    return _asking(AuthAPI(settings))


@pytest.fixture
def ask_in_development() -> Ask:
    """A connection to a service that has no public URL."""
    return _asking(AuthAPI(Settings()))


def _asking(auth: AuthAPI) -> Ask:
    def connection(
        *, method: str = "POST", kind: str = "http", **headers: str | None
    ) -> HTTPConnection:
        raw = [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in ({"host": "id.example.com"} | headers).items()
            if value is not None
        ]
        scope: dict[str, object] = {"type": kind, "method": method, "headers": raw}
        if kind == "websocket":
            del scope["method"]
        scope["authapi"] = RequestContext(runtime=auth.runtime, request_id="id")
        return HTTPConnection(scope)

    return connection


def repeated(found: HTTPConnection, *lines: tuple[bytes, bytes]) -> HTTPConnection:
    """The connection with more header lines, which may have names that are there already."""
    return HTTPConnection({**found.scope, "headers": [*found.scope["headers"], *lines]})


FOREIGN = [
    "https://evil.example",
    "null",
    "",
    "https://x.example.com",  # a sibling
    "https://example.com",  # the parent
    "https://x.id.example.com",
    "http://id.example.com",
    "https://id.example.com:8443",
    "https://id.example.com:443",  # no browser names the port of its scheme
    "https://id.example.com.evil.example",
    "https://id.example.com@evil.example",
    "https://evil.example/https://id.example.com",
    "https://id.example.com/",
    "https://id.example.com/auth",
    "https://ID.example.com",
    " https://id.example.com",
    "https://id.example.com, https://evil.example",
    "https://id.example.com https://evil.example",
    "id.example.com",
    "//id.example.com",
    "http://[",
    "*",
    "https://app.example.com.evil.example",
    "http://app.example.com",
    "https://app.example.com:8443",
    "file://",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_without_fetch_metadata_the_origin_decides(ask: Ask, origin: str) -> None:
    assert is_foreign(ask(origin=origin))
    with pytest.raises(ForeignOrigin):
        check_origin(ask(origin=origin))


@pytest.mark.parametrize("origin", [OWN, ALLOWED, None])
def test_our_own_the_allowed_and_no_browser_at_all_may(ask: Ask, origin: str | None) -> None:
    check_origin(ask(origin=origin))


@pytest.mark.parametrize("site", ["same-origin", "none"])
@pytest.mark.parametrize("origin", [OWN, None, "null"])
def test_what_the_browser_says_is_ours_is_ours(ask: Ask, site: str, origin: str | None) -> None:
    check_origin(ask(sec_fetch_site=site, origin=origin))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin", "unheard-of"])
@pytest.mark.parametrize("origin", [OWN, None, "https://evil.example"])
def test_what_the_browser_says_is_not_ours_is_foreign(
    ask: Ask, site: str, origin: str | None
) -> None:
    assert is_foreign(ask(sec_fetch_site=site, origin=origin))


@pytest.mark.parametrize(
    "sites", [("same-origin", "cross-site"), ("none", "none"), ("same-origin", "same-origin")]
)
@pytest.mark.parametrize("origin", [OWN, None])
def test_two_lines_of_what_a_browser_says_once_are_foreign(
    ask: Ask, sites: tuple[str, str], origin: str | None
) -> None:
    for first, second in (sites, sites[::-1]):
        found = ask(sec_fetch_site=first, origin=origin)
        assert is_foreign(repeated(found, (b"sec-fetch-site", second.encode())))


@pytest.mark.parametrize("first", [OWN, ALLOWED])
@pytest.mark.parametrize("second", [OWN, ALLOWED, "https://evil.example", ""])
def test_two_origins_are_foreign(ask: Ask, first: str, second: str) -> None:
    assert is_foreign(repeated(ask(origin=first), (b"origin", second.encode())))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_an_allowed_origin_is_never_of_our_site(ask: Ask, site: str) -> None:
    check_origin(ask(sec_fetch_site=site, origin=ALLOWED))


@pytest.mark.parametrize(
    ("origin", "foreign"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://127.0.0.1:9000", True),
        ("http://localhost:8000", True),
        ("https://evil.example", True),
        ("null", True),
        ("http://[", True),
        (None, False),
    ],
)
def test_in_development_a_page_must_come_from_the_host_it_talks_to(
    ask_in_development: Ask, origin: str | None, foreign: bool
) -> None:
    assert is_foreign(ask_in_development(host="127.0.0.1:8000", origin=origin)) is foreign
    if origin is not None:
        assert is_foreign(ask_in_development(host=None, origin=origin))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_not_checked(ask: Ask, method: str) -> None:
    check_ambient(ask(method=method, origin="https://evil.example", sec_fetch_site="cross-site"))


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "get", "BREW"])
def test_whatever_else_is_checked(ask: Ask, method: str) -> None:
    with pytest.raises(ForeignOrigin):
        check_ambient(ask(method=method, origin="https://evil.example"))


def test_a_websocket_is_checked(ask: Ask) -> None:
    with pytest.raises(ForeignOrigin):
        check_ambient(ask(kind="websocket", origin="https://evil.example"))
    check_ambient(ask(kind="websocket", origin=OWN, sec_fetch_dest="websocket"))


@pytest.mark.parametrize(
    "destination",
    ["script", "image", "style", "iframe", "frame", "embed", "object", "font", "video", "worker"],
)
def test_what_a_page_wants_to_load_is_refused(ask: Ask, destination: str) -> None:
    with pytest.raises(WrongDestination):
        check_ambient(ask(method="GET", sec_fetch_dest=destination, sec_fetch_site="same-origin"))


@pytest.mark.parametrize("second", ["empty", "document", "script", ""])
def test_two_destinations_are_none(ask: Ask, second: str) -> None:
    for one, other in (("empty", second), (second, "empty")):
        found = ask(method="GET", sec_fetch_dest=one)
        with pytest.raises(WrongDestination):
            check_ambient(repeated(found, (b"sec-fetch-dest", other.encode())))
    nothing = ask(method="GET", sec_fetch_dest="")
    check_ambient(repeated(nothing, (b"sec-fetch-dest", b"")))


@pytest.mark.parametrize("destination", ["empty", "document", None])
def test_what_a_script_fetches_or_a_person_opens_is_not(ask: Ask, destination: str | None) -> None:
    check_ambient(ask(method="GET", sec_fetch_dest=destination))
