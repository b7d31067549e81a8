"""Refusals of WebSockets.

Before the handshake is accepted, a refusal is the same HTTP response as for a request, if the
server has the ASGI extension `websocket.http.response`, as uvicorn does. Without it the server
answers 403. After the handshake, a refusal is a close code (RFC 6455, section 7.4; applications may
use 4000 to 4999): 4401 instead of 401, 1011 instead of 500, 1013 instead of 503, 1008 otherwise.
"""

from collections.abc import Mapping
from typing import Final

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.types import Message, Scope

EXTENSION: Final = "websocket.http.response"

UNAUTHENTICATED: Final = 4401
POLICY_VIOLATION: Final = 1008
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013
_CLOSE_CODES: Mapping[int, int] = {401: UNAUTHENTICATED, 500: 1011, 503: TRY_AGAIN_LATER}


def can_send_response(scope: Scope, *, is_accepted: bool) -> bool:
    """Whether the application can refuse this WebSocket with an HTTP response."""
    return not is_accepted and EXTENSION in (scope.get("extensions") or ())


def close_message(status: int, code: str) -> Message:
    """Returns the message that closes a WebSocket instead of an HTTP response with `status`.

    `code` of the problem document becomes the reason.
    """
    return {
        "type": "websocket.close",
        "code": _CLOSE_CODES.get(status, POLICY_VIOLATION),
        "reason": code,
    }


def has_route(scope: Scope) -> bool:
    """Whether the application has a WebSocket route or a mounted application at this path."""
    path = get_route_path(scope)
    for route in iter_route_contexts(getattr(scope.get("app"), "routes", ())):
        pattern = getattr(route, "path_regex", None)
        if not route.methods and pattern is not None and pattern.match(path):
            return True
    return False
