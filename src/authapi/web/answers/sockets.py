"""How the refusal of a WebSocket looks.

Before the handshake is accepted it is an HTTP response, as the server lets the application send one
by the ASGI extension `websocket.http.response`; a server without it answers 403. Afterwards it is a
close code (RFC 6455, section 7.4; 4000 to 4999 are for applications).
"""

from collections.abc import Mapping
from typing import Final

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.types import Message, Scope

EXTENSION: Final = "websocket.http.response"

UNAUTHENTICATED: Final = 4401
POLICY_VIOLATION: Final = 1008
_CODE_OF: Mapping[int, int] = {401: UNAUTHENTICATED, 500: 1011, 503: 1013}


def can_answer(scope: Scope, *, is_accepted: bool) -> bool:
    """Whether a refusal of this WebSocket can be an HTTP response."""
    return not is_accepted and EXTENSION in (scope.get("extensions") or ())


def closing(status: int, code: str) -> Message:
    """The message that closes a WebSocket where a route would answer `status` and `code`."""
    return {
        "type": "websocket.close",
        "code": _CODE_OF.get(status, POLICY_VIOLATION),
        "reason": code,
    }


def has_route(scope: Scope) -> bool:
    """Whether the application has a WebSocket route, or a mounted application, at this path."""
    path = get_route_path(scope)
    for route in iter_route_contexts(getattr(scope.get("app"), "routes", ())):
        pattern = getattr(route, "path_regex", None)
        if not route.methods and pattern is not None and pattern.match(path):
            return True
    return False
