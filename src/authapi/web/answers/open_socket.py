"""The messages of one open WebSocket, which authapi closes when the session behind it ends.

The handler of the application may be anywhere at that moment: it waits for a message, sends one, or
does other work. The close frame is sent by a task of its own, so that a client that does not read
holds no other socket. A handler that sends afterwards gets `SocketEnded`, a WebSocketDisconnect as
for a client that has left, and the middleware ends it without an entry in the log.
"""

import asyncio
import logging

from starlette.types import Message, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

_log = logging.getLogger("authapi")

_CLOSE_GRACE = 1.0
"""Seconds that the end of the handler waits until the close frame is sent."""


class SocketEnded(WebSocketDisconnect):
    """authapi has closed this WebSocket."""


class OpenSocket:
    """One WebSocket, with `send` of the server."""

    __slots__ = ("_closing", "_send", "_waiting", "ended")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._closing: asyncio.Task[None] | None = None
        self._waiting: asyncio.Timeout | None = None
        """What interrupts `receive`."""
        self.ended: SocketEnded | None = None
        """Why authapi has closed the WebSocket; None if it has not."""

    async def send(self, message: Message) -> None:
        """Sends a message of the application.

        Raises SocketEnded if authapi has closed the WebSocket, and the errors of the server.
        """
        if not self._is_ended():
            try:
                await self._send(message)
            except OSError:
                # The server raises it for a client that has left, or did not read the close frame.
                if not self._is_ended():
                    raise
            else:
                return
        if self.ended is not None and message["type"] != "websocket.close":
            raise self.ended

    async def receive(self, websocket: WebSocket) -> Message | None:
        """Returns the next message of the client, or None once authapi closes the WebSocket."""
        if self._is_ended():
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                message = await websocket.receive()
        except TimeoutError:
            if not self._is_ended():
                raise  # of the server
            return None
        finally:
            self._waiting = None
        return None if self._is_ended() else message

    def end(self, code: int, reason: str) -> asyncio.Task[None]:
        """Begins to close the WebSocket, and interrupts `receive`. Returns the closing task."""
        self.ended = SocketEnded(code, reason)
        if self._waiting is not None:
            self._waiting.reschedule(0)
        self._closing = asyncio.create_task(self._close(code, reason), name="authapi-socket-close")
        return self._closing

    async def wait_closed(self) -> None:
        """Waits until the close frame is sent, up to a second."""
        if self._closing is not None:
            await asyncio.wait([self._closing], timeout=_CLOSE_GRACE)

    def is_caused_by_end(self, error: Exception) -> bool:
        """Whether a handler has failed only because authapi has closed its WebSocket."""
        if self.ended is None:
            return False
        if isinstance(error, ExceptionGroup):  # of a TaskGroup
            return error.split(WebSocketDisconnect)[1] is None
        return isinstance(error, WebSocketDisconnect)

    def _is_ended(self) -> bool:
        # A type checker takes an attribute that it has narrowed for unchanged after an `await`.
        return self.ended is not None

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except Exception as error:
            # The client or the handler has closed the WebSocket at the same time.
            _log.debug("WebSocket already closed: %s", type(error).__name__)
