"""SQLite connections whose closing can be awaited.

aiosqlite runs the calls of a connection in a thread, one after the other. A cancelled task stops
waiting for its call, but the thread continues it, and may hold the write lock of the file until it
has closed the connection.
"""

import asyncio
import sqlite3
from contextlib import suppress
from typing import Any

import aiosqlite

_ITER_CHUNK_SIZE = 64  # rows per chunk of a cursor iteration: aiosqlite's default
_CLOSE_TIMEOUT = 2.0
"""Seconds that `close` waits for the thread: a disk that hangs must not block the caller."""


class RollbackOnClose(sqlite3.Connection):
    """A connection that rolls back an open transaction before it closes.

    SQLite itself rolls back only after the last cursor of the connection is finalized. The
    traceback of a cancelled statement still references its cursor.
    """

    is_closed = False

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        try:
            if self.in_transaction:
                # Even if the rollback fails, the connection is closed and its thread has to end.
                with suppress(sqlite3.Error):
                    self.rollback()
        finally:
            super().close()


class StoppableConnection(aiosqlite.Connection):
    """An aiosqlite connection whose `stop` can be called several times.

    aiosqlite queues every `stop`, and its thread ends at the first one, so a task that awaits a
    later one waits forever. SQLAlchemy calls `stop` twice if it is cancelled while it closes a
    connection.
    """

    def __init__(self, path: str, **options: Any) -> None:
        def connect() -> sqlite3.Connection:
            options["factory"] = RollbackOnClose
            connection: sqlite3.Connection = sqlite3.connect(path, **options)
            return connection

        super().__init__(connect, _ITER_CHUNK_SIZE)
        self._thread.daemon = True  # SQLAlchemy sets it on the connections that it creates itself
        self._is_stopping = False
        self._end: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """Closes the connection after the queued calls, and ends its thread.

        The returned future is done when the thread has ended. It is None without an event loop.
        """
        if not self._is_stopping:
            self._is_stopping = True
            self._end = super().stop()
        # Each caller gets its own future, so that cancelling one does not cancel the others.
        return None if self._end is None else asyncio.shield(self._end)

    async def close(self) -> None:
        """Stops, and waits at most two seconds until the connection is closed."""
        end = self.stop()
        if end is not None:
            await asyncio.wait([end], timeout=_CLOSE_TIMEOUT)

    async def wait_stopped(self) -> None:
        """Waits until the thread has ended; returns at once if `stop` was not called."""
        if self._end is not None:
            await asyncio.shield(self._end)
