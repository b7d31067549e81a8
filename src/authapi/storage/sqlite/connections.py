"""SQLite connections whose end can be awaited.

aiosqlite runs the calls of a connection one after the other in a thread. A task that is cancelled
stops waiting for its call; the thread goes on with it, and may hold the write lock of the file
until it has closed the connection.
"""

import asyncio
import sqlite3
from contextlib import suppress
from typing import Any

import aiosqlite

_ROWS_A_CHUNK = 64  # of an iteration over a cursor, as aiosqlite has it by default
_PATIENCE = 2.0
"""Seconds that `close` waits for the thread: a disk that hangs must not hang the caller."""


class RollingBack(sqlite3.Connection):
    """Rolls back what is open before it closes.

    SQLite does so by itself, but not before the last cursor of the connection is gone; that of a
    cancelled statement is held by its traceback.
    """

    is_closed = False

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        try:
            if self.in_transaction:
                # If it fails, the connection is closed all the same, and its thread has to end.
                with suppress(sqlite3.Error):
                    self.rollback()
        finally:
            super().close()


class StoppableConnection(aiosqlite.Connection):
    """A connection of aiosqlite whose thread is stopped once, however often that is asked for.

    aiosqlite queues each `stop` behind the last, and the thread ends at the first: a task that
    waits for a later one waits for ever. SQLAlchemy asks twice when it is cancelled while it closes
    a connection.
    """

    def __init__(self, path: str, **options: Any) -> None:
        def connect() -> sqlite3.Connection:
            made: sqlite3.Connection = sqlite3.connect(path, **{**options, "factory": RollingBack})
            return made

        super().__init__(connect, _ROWS_A_CHUNK)
        self._thread.daemon = True  # as SQLAlchemy sets it for connections that it makes itself
        self._is_stopping = False
        self._end: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """Close the connection behind the calls that are queued, and end its thread.

        The future is done then. It is None without an event loop.
        """
        if not self._is_stopping:
            self._is_stopping = True
            self._end = super().stop()
        # Each caller has a future of its own: one that is cancelled takes nothing from the others.
        return None if self._end is None else asyncio.shield(self._end)

    async def close(self) -> None:
        """Stop, and wait two seconds at most until the connection is closed."""
        end = self.stop()
        if end is not None:
            await asyncio.wait([end], timeout=_PATIENCE)

    async def stopped(self) -> None:
        """Return once the thread has ended; at once if nothing has stopped it."""
        if self._end is not None:
            await asyncio.shield(self._end)
