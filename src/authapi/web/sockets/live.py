"""`live_messages` and `identity_is_live`: open connections learn that their session has ended.

A gate checks a request once, at its beginning. A WebSocket or a stream of events goes on, while the
owner logs out or an administrator deactivates the account. See `docs/websockets.md`.
"""

from asyncio import Task
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketState

from authapi.clock import now
from authapi.domain.identity import Identity
from authapi.services.sessions.watch import Ending
from authapi.web.answers.open_socket import OpenSocket
from authapi.web.answers.websocket_messages import SERVICE_RESTART, TRY_AGAIN_LATER, UNAUTHENTICATED
from authapi.web.context import context_of

_CODES: Final[Mapping[Ending, int]] = {
    Ending.SESSION_ENDED: UNAUTHENTICATED,
    Ending.UNVERIFIED: TRY_AGAIN_LATER,
    Ending.STOPPED: SERVICE_RESTART,
}


async def live_messages(
    websocket: WebSocket, identity: Identity
) -> AsyncGenerator[str | bytes, None]:
    """Yields the messages of the client, until the client leaves or the session of `identity` ends.

    `identity` is what a gate has returned for this accepted WebSocket. The iterator closes the
    WebSocket and stops with code 4401 and the reason `session_ended` when a request with the same
    credential would be refused: after a logout, also by another device, a change of the password, a
    deactivation or deletion of the account, and at the expiry. Other processes close within
    `identity_cache_max_staleness`. It closes with 1013 if the database does not answer for
    `identity_cache_ttl`, and with 1012 at the shutdown.

    Each message counts as a use of the session. A handler that sends at that moment gets
    WebSocketDisconnect. Raises RuntimeError if the WebSocket is not accepted, or authapi is not
    installed or not started.
    """
    context = context_of(websocket)
    socket, watch = context.socket, context.runtime.session_watch
    if socket is None or websocket.application_state is not WebSocketState.CONNECTED:
        raise RuntimeError("call `await websocket.accept()` before live_messages(...)")
    with watch.watching(
        identity,
        is_account=context.runtime.is_account(identity),
        on_end=lambda ending: _close(socket, ending),
    ) as watched:
        while (message := await socket.receive(websocket)) is not None:
            if message["type"] == "websocket.disconnect":
                return
            watch.record_use(watched)
            text = message.get("text")
            yield message["bytes"] if text is None else text
    await socket.wait_closed()


def _close(socket: OpenSocket, ending: Ending) -> Task[None]:
    return socket.end(_CODES[ending], ending.value)


async def identity_is_live(connection: HTTPConnection, identity: Identity) -> bool:
    """Whether a request with the credential of `identity` would still be authenticated.

    `identity` is what a gate has returned for `connection`, a WebSocket or a Request. The answer
    costs a query only if the user, or one of the user's sessions, may have changed since the last
    call for this connection. It does not count as a use of the session.

    Raises StorageUnavailable if the database does not answer, RuntimeError if authapi is not
    installed.
    """
    context = context_of(connection)
    if identity.expires_at is not None and now() >= identity.expires_at:
        return False
    liveness = context.runtime.session_watch.liveness
    if liveness is None or not context.runtime.is_account(identity):
        return True
    found = await liveness.check(identity, last=context.checked)
    if found is not None:
        context.checked = found
    return found is not None
