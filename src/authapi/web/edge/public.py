"""The public documents below `/.well-known/`: any page may read them, and no credential goes along.

A browser gives a page of another origin an answer only with `Access-Control-Allow-Origin` (Fetch
standard, section 3.2). JWKS and metadata say nothing that depends on the caller, so the origin is
`*`, which browsers do not accept for a request with credentials. The CORS settings of the
application do not apply: its CORS middleware does not see the `Origin` of these requests.
"""

from collections.abc import Iterable
from typing import Final

from starlette._utils import get_route_path
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from authapi.web.answers.owners import is_ours

PREFIX: Final = "/.well-known/"
"""Where the public documents are (RFC 8615)."""

_KEY: Final = "authapi.public"
_REPLACED: Final = b"cross-origin-resource-policy"
_CORS: Final = b"access-control-"
_HEADERS: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"ETag, Retry-After, X-Request-ID"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
_PREFLIGHT_HEADERS: Final = {
    "access-control-allow-methods": "GET, HEAD",
    "access-control-allow-headers": "*",
    "access-control-max-age": "86400",
}
_ALLOWS: Final = tuple(name.encode() for name in _PREFLIGHT_HEADERS)


def is_public(scope: Scope) -> bool:
    """Whether this request is for a public document of ours, or for one that does not exist.

    A route of the application below `/.well-known/` belongs to the application.
    """
    return get_route_path(scope).startswith(PREFIX) and is_ours(scope)


def published(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """`scope` without the origin of the page, and `send` with headers that let every page read."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"origin"]

    async def send_to_every_page(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": readable(message.get("headers", ()))}
        await send(message)

    return {**scope, "headers": headers, _KEY: True}, send_to_every_page


def readable(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`headers` of an answer, with those that let every page read it."""
    return [*(pair for pair in headers if _is_kept(pair[0].lower())), *_HEADERS]


def preflight_of(scope: Scope) -> Response | None:
    """The answer to a CORS preflight for a public document; None for any other request."""
    if _KEY not in scope or not _asks_leave(scope):
        return None
    return Response(status_code=204, headers=_PREFLIGHT_HEADERS)


def _asks_leave(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _is_kept(name: bytes) -> bool:
    return name != _REPLACED and (name in _ALLOWS or not name.startswith(_CORS))
