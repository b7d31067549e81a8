"""A transport that lets the client read the answer before the connection goes.

A socket that is closed while bytes of the client lie unread in it is reset, and a reset may destroy
the answer on its way (RFC 9112, section 9.6). So the writing half is closed first, and what still
arrives is read and dropped, within a bound of bytes and time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

_MAX_BYTES: Final = 65536
_SECONDS: Final = 1.0


class ClosingTransport(asyncio.Transport):
    """Passes writes on to `raw`; closes it in two steps while `is_unread` says that more comes."""

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
        self._dropped = 0
        self.write = raw.write  # type: ignore[method-assign]  # no frame of ours for each write

    def close(self) -> None:
        """Close now, or once the client has had time to read the answer."""
        if self._timer is not None or self.raw.is_closing() or not self._is_unread():
            self.raw.close()
            return
        self._timer = self._loop.call_later(_SECONDS, self.raw.close)
        self.raw.resume_reading()
        if self.raw.can_write_eof():
            self.raw.write_eof()

    def drop(self, size: int) -> None:
        """Note that `size` bytes arrived which are not read; closes the connection at the bound."""
        self._dropped += size
        if self._dropped > _MAX_BYTES:
            self.raw.close()

    def lost(self) -> None:
        """The connection is gone: release what refers to it."""
        self._is_unread = bool
        if self._timer is not None:
            self._timer.cancel()

    def is_closing(self) -> bool:
        """Whether no more answers go out; the client may still be reading the last one."""
        return self._timer is not None or self.raw.is_closing()


class HeldFlow(FlowControl):
    """Reads nothing more while bytes that were read before are held back."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()
