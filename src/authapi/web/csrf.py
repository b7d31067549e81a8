"""Protection against cross-site request forgery (CSRF), by Fetch Metadata and `Origin`.

A browser attaches cookies and remembered HTTP Basic credentials to requests that any page causes.
It also tells where a request comes from, in headers that a page cannot set: `Sec-Fetch-Site` (W3C
Fetch Metadata) and `Origin` (RFC 6454). An unsafe request with such a credential, and a login, must
come from the origin of this service or an allowed origin. No CSRF token is needed. A client that
sends neither header is not a browser, so another page cannot use its credentials. The rule is that
of Go's `net/http.CrossOriginProtection`, described in Filippo Valsorda, "Cross-Site Request
Forgery" (2025).
"""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from authapi.errors import ForeignOrigin, WrongDestination
from authapi.strategies.base import read_header
from authapi.web.context import context_of

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})
_DESTINATIONS = frozenset({None, "", ", ", "empty", "document", "websocket"})
"""Accepted values of `Sec-Fetch-Dest`. The third is the value of two empty header lines."""


def check_browser_request(connection: HTTPConnection) -> None:
    """Checks a request whose credential a browser may have attached by itself.

    Raises WrongDestination if a page loads the response as a script, an image, a frame or the like,
    and ForeignOrigin if an unsafe request or a WebSocket handshake comes from a foreign origin.
    """
    if read_header(connection, b"sec-fetch-dest") not in _DESTINATIONS:
        # No response of this service is meant to be embedded in a page.
        raise WrongDestination
    if connection.scope["type"] == "websocket" or connection.scope["method"] not in _SAFE_METHODS:
        check_origin(connection)


def check_origin(connection: HTTPConnection) -> None:
    """Raises ForeignOrigin if a page of a foreign origin has caused the request."""
    if is_cross_origin(connection):
        raise ForeignOrigin


def is_cross_origin(connection: HTTPConnection) -> bool:
    """Whether a page of an origin that is neither own nor allowed has caused the request."""
    # Two lines of one header are joined, and the joined value equals no allowed value.
    origin, site = read_header(connection, b"origin"), read_header(connection, b"sec-fetch-site")
    settings = context_of(connection).runtime.settings
    if origin is not None and origin in settings.allowed_origins:
        return False
    if site is not None:
        # `none`: the user entered the address or opened a bookmark.
        return site not in _OWN_SITES
    if origin is None:
        return False
    if settings.public_url is not None:
        parts = urlsplit(settings.public_url)
        return origin != f"{parts.scheme}://{parts.netloc}"
    # Without `public_url`, in development, the origin must have the host of the request.
    try:
        return urlsplit(origin).netloc != read_header(connection, b"host")
    except ValueError:
        return True
