"""Whether a browser sent a request on behalf of a page that has no business with us.

A cookie goes along with whatever a page makes a browser send, and so does what was once typed for
HTTP Basic. Browsers say where a request comes from, in headers that no page can set:
`Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin` (RFC 6454). So no token has to be kept: an unsafe
request that such a credential authenticates, and a login, must come from our own pages or an
allowed origin. A client that sends neither header is no browser, and has nothing that another page
could use. The rule follows Filippo Valsorda, "Cross-Site Request Forgery" (2025), and Go's
`net/http.CrossOriginProtection`, which he wrote.
"""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from authapi.errors import ForeignOrigin, WrongDestination
from authapi.strategies.base import header
from authapi.web.context import context_of

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})
_DESTINATIONS = frozenset({None, "", ", ", "empty", "document", "websocket"})
"""Values of `Sec-Fetch-Dest` that are no reason to refuse. Two lines without a value, which are
joined to the third of these, say as little as one."""


def check_ambient(connection: HTTPConnection) -> None:
    """For a caller whose credential a browser may have added by itself.

    Raises ForeignOrigin or WrongDestination.
    """
    if header(connection, b"sec-fetch-dest") not in _DESTINATIONS:
        # A page that loads an answer as script, image or frame wants something that we do not give.
        raise WrongDestination
    if connection.scope["type"] == "websocket" or connection.scope["method"] not in _SAFE_METHODS:
        check_origin(connection)


def check_origin(connection: HTTPConnection) -> None:
    """Raises ForeignOrigin for a request that another origin's page has made a browser send."""
    if is_foreign(connection):
        raise ForeignOrigin


def is_foreign(connection: HTTPConnection) -> bool:
    """Whether a page that is neither ours nor of an allowed origin is behind this request."""
    # Two lines of one of them are joined, and then equal nothing that is allowed.
    origin, site = header(connection, b"origin"), header(connection, b"sec-fetch-site")
    settings = context_of(connection).runtime.settings
    if origin is not None and origin in settings.allowed_origins:
        return False
    if site is not None:
        # Told by the browser itself; `none` is a person who typed the address.
        return site not in _OWN_SITES
    if origin is None:
        return False
    if settings.public_url is not None:
        parts = urlsplit(settings.public_url)
        return origin != f"{parts.scheme}://{parts.netloc}"
    # Without a configured URL, in development, the page must come from the host that it talks to.
    try:
        return urlsplit(origin).netloc != header(connection, b"host")
    except ValueError:
        return True
