"""CSRF protection: which requests a page of a foreign origin has caused."""

from collections.abc import Callable

import pytest
from starlette.requests import HTTPConnection

from authapi import AuthAPI, Settings
from authapi.errors import ForeignOrigin, WrongDestination
from authapi.web.context import RequestContext
from authapi.web.csrf import check_browser_request, check_origin, is_cross_origin

Ask = Callable[..., HTTPConnection]

OWN = "https://id.example.com"
ALLOWED = "https://app.example.com"


@pytest.fixture
def ask() -> Ask:
    """Creates connections to a service at OWN that allows ALLOWED."""
    settings = Settings(public_url=f"{OWN}/auth", allowed_origins=(ALLOWED,))
    return _asking(AuthAPI(settings))


@pytest.fixture
def ask_in_development() -> Ask:
    """Creates connections to a service without `public_url`."""
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
    """Returns the connection with more header lines, which may repeat a name."""
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
    "https://id.example.com:443",  # browsers omit the default port
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
def test_foreign_origins_are_refused_without_fetch_metadata(ask: Ask, origin: str) -> None:
    assert is_cross_origin(ask(origin=origin))
    with pytest.raises(ForeignOrigin):
        check_origin(ask(origin=origin))


@pytest.mark.parametrize("origin", [OWN, ALLOWED, None])
def test_own_allowed_and_absent_origins_are_accepted(ask: Ask, origin: str | None) -> None:
    check_origin(ask(origin=origin))


@pytest.mark.parametrize("site", ["same-origin", "none"])
@pytest.mark.parametrize("origin", [OWN, None, "null"])
def test_same_origin_fetch_site_is_accepted(ask: Ask, site: str, origin: str | None) -> None:
    check_origin(ask(sec_fetch_site=site, origin=origin))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin", "unheard-of"])
@pytest.mark.parametrize("origin", [OWN, None, "https://evil.example"])
def test_other_fetch_sites_are_cross_origin(ask: Ask, site: str, origin: str | None) -> None:
    assert is_cross_origin(ask(sec_fetch_site=site, origin=origin))


@pytest.mark.parametrize(
    "sites", [("same-origin", "cross-site"), ("none", "none"), ("same-origin", "same-origin")]
)
@pytest.mark.parametrize("origin", [OWN, None])
def test_repeated_fetch_site_is_cross_origin(
    ask: Ask, sites: tuple[str, str], origin: str | None
) -> None:
    for first, second in (sites, sites[::-1]):
        found = ask(sec_fetch_site=first, origin=origin)
        assert is_cross_origin(repeated(found, (b"sec-fetch-site", second.encode())))


@pytest.mark.parametrize("first", [OWN, ALLOWED])
@pytest.mark.parametrize("second", [OWN, ALLOWED, "https://evil.example", ""])
def test_repeated_origin_is_cross_origin(ask: Ask, first: str, second: str) -> None:
    assert is_cross_origin(repeated(ask(origin=first), (b"origin", second.encode())))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_allowed_origin_is_accepted_with_a_foreign_fetch_site(ask: Ask, site: str) -> None:
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
def test_without_a_public_url_the_origin_must_match_the_host(
    ask_in_development: Ask, origin: str | None, foreign: bool
) -> None:
    assert is_cross_origin(ask_in_development(host="127.0.0.1:8000", origin=origin)) is foreign
    if origin is not None:
        assert is_cross_origin(ask_in_development(host=None, origin=origin))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_methods_are_not_checked(ask: Ask, method: str) -> None:
    check_browser_request(
        ask(method=method, origin="https://evil.example", sec_fetch_site="cross-site")
    )


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "get", "BREW"])
def test_other_methods_are_checked(ask: Ask, method: str) -> None:
    with pytest.raises(ForeignOrigin):
        check_browser_request(ask(method=method, origin="https://evil.example"))


def test_websocket_handshakes_are_checked(ask: Ask) -> None:
    with pytest.raises(ForeignOrigin):
        check_browser_request(ask(kind="websocket", origin="https://evil.example"))
    check_browser_request(ask(kind="websocket", origin=OWN, sec_fetch_dest="websocket"))


@pytest.mark.parametrize(
    "destination",
    ["script", "image", "style", "iframe", "frame", "embed", "object", "font", "video", "worker"],
)
def test_embedded_destinations_are_refused(ask: Ask, destination: str) -> None:
    with pytest.raises(WrongDestination):
        check_browser_request(
            ask(method="GET", sec_fetch_dest=destination, sec_fetch_site="same-origin")
        )


@pytest.mark.parametrize("second", ["empty", "document", "script", ""])
def test_repeated_fetch_destinations_are_refused(ask: Ask, second: str) -> None:
    for one, other in (("empty", second), (second, "empty")):
        found = ask(method="GET", sec_fetch_dest=one)
        with pytest.raises(WrongDestination):
            check_browser_request(repeated(found, (b"sec-fetch-dest", other.encode())))
    nothing = ask(method="GET", sec_fetch_dest="")
    check_browser_request(repeated(nothing, (b"sec-fetch-dest", b"")))


@pytest.mark.parametrize("destination", ["empty", "document", None])
def test_fetch_and_navigation_destinations_are_accepted(ask: Ask, destination: str | None) -> None:
    check_browser_request(ask(method="GET", sec_fetch_dest=destination))
