"""CORS for the public documents below `/.well-known/`: pages of all origins may read them.

A browser passes a response to a page of another origin only with `Access-Control-Allow-Origin`
(Fetch standard, section 3.2). The JWK set and the metadata do not depend on the caller, so the
value is `*`, which browsers reject for a request with credentials. The CORS settings of the
application do not apply: its CORS middleware does not see the `Origin` of these requests.
"""

from collections.abc import Iterable
from typing import Final

from starlette._utils import get_route_path
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from authapi.web.answers.route_ownership import is_own_route, path_below

PREFIX: Final = "/.well-known/"
"""The beginning of the paths of public documents (RFC 8615), of the host and below a prefix."""

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


def is_public_path(path: str, prefix: str) -> bool:
    """Whether `path` is below `/.well-known/`, of the host or of `prefix`, the path of authapi."""
    own = path_below(prefix, path)
    return path.startswith(PREFIX) or (own is not None and own.startswith(PREFIX))


def is_public(scope: Scope, prefix: str) -> bool:
    """Whether the request is for a public document of authapi, or for a path without a route.

    `prefix` is the path of authapi. False for routes of the importing application below
    `/.well-known/`.
    """
    return is_public_path(get_route_path(scope), prefix) and is_own_route(scope)


def allow_all_origins(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """Returns `scope` without `Origin`, and a `send` that adds the CORS headers to the response."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"origin"]

    async def send_with_cors_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": with_cors_headers(message.get("headers", ()))}
        await send(message)

    return {**scope, "headers": headers, _KEY: True}, send_with_cors_headers


def with_cors_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns the `headers` of a response with those that let pages of all origins read it."""
    return [*(pair for pair in headers if _is_kept(pair[0].lower())), *_HEADERS]


def public_preflight_response(scope: Scope) -> Response | None:
    """Returns the response to a CORS preflight for a public document; None for other requests."""
    if _KEY not in scope or not _is_preflight(scope):
        return None
    return Response(status_code=204, headers=_PREFLIGHT_HEADERS)


def _is_preflight(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _is_kept(name: bytes) -> bool:
    return name != _REPLACED and (name in _ALLOWS or not name.startswith(_CORS))
