"""A transport with a lingering close, so that the client can read the last response.

If a server closes a socket with unread data, TCP resets the connection, and the client may lose the
response (RFC 9112, section 9.6). So the server closes the write side first. Then it reads and
discards data until a limit of bytes or time is reached.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

from authapi.web.server.limits import MAX_DISCARDED

_SECONDS: Final = 1.0


class LingeringTransport(asyncio.Transport):
    """Writes to `raw`, and closes it in two steps if `is_unread` tells that data is unread."""

    def __init__(
        self,
        raw: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        is_unread: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.raw = raw
        self._loop = loop
        self._is_unread = is_unread
        self._timer: asyncio.TimerHandle | None = None
        self.is_lingering = False
        """Whether the write side is closed, and the rest is read and discarded."""
        self.discarded = 0
        """The discarded bytes of the current request."""
        self.write = raw.write  # type: ignore[method-assign]  # saves a call for each write

    def close(self) -> None:
        """Closes the connection at once, or after a second if the client has sent unread data."""
        if self.is_lingering or self.raw.is_closing() or not self._is_unread():
            self.raw.close()
            return
        self.is_lingering = True
        self._timer = self._loop.call_later(_SECONDS, self.raw.close)
        self.raw.resume_reading()
        if self.raw.can_write_eof():
            self.raw.write_eof()

    def discard(self, size: int, limit: int = MAX_DISCARDED) -> None:
        """Counts `size` discarded bytes of a request, and closes the connection above the limit."""
        self.discarded += size
        if self.discarded > limit:
            self.raw.close()

    def begin_request(self) -> None:
        """Begins to count the discarded bytes of another request."""
        if not self.is_closing():
            self.discarded = 0

    def release(self) -> None:
        """Releases timer and references after the connection is lost."""
        self._is_unread = bool
        if self._timer is not None:
            self._timer.cancel()

    def is_closing(self) -> bool:
        """Whether no further response is sent; the client may still read the last one."""
        return self.is_lingering or self.raw.is_closing()


class PausableFlowControl(FlowControl):
    """Flow control that keeps reading paused while `is_paused` is set."""

    is_paused = False

    def resume_reading(self) -> None:
        if self.read_paused and not self.is_paused:
            super().resume_reading()
