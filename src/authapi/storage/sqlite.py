"""SQLite: connections that can be stopped, the listeners of an engine, and notifications.

aiosqlite runs the calls of a connection in a thread, one after the other. A cancelled task stops
waiting for its call, but the thread continues it, and may hold the write lock of the file until it
has closed the connection.
"""

import asyncio
import sqlite3
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiosqlite
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import ConnectionPoolEntry

from authapi.storage.notifications import ALL_USERS, Notifications, OnChange

WRITES = "authapi_write"
"""The execution option of connections whose transactions write."""
_FILE = "authapi_file"
"""The key in the `info` of a connection that holds the identity of its file."""
_WAL_TIMEOUT, _WAL_PAUSE = 5.0, 0.02
"""Seconds to retry the switch of a new file to a write-ahead log, and between retries."""
_ITER_CHUNK_SIZE = 64  # rows per chunk of a cursor iteration: aiosqlite's default
_CLOSE_TIMEOUT = 2.0
"""Seconds that `close` waits for the thread: a disk that hangs must not block the caller."""
_VERSIONS: Final = 1 << 31
_CHECK_INTERVAL = 0.005
"""Seconds. A check is two system calls, a tenth of the cost of a cache hit under load."""


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


def listen_to_engine(engine: Engine, path: Path) -> None:
    """Prepares each new connection of `engine`, whose connections must be to the file at `path`."""

    def note_file(_: object, record: ConnectionPoolEntry) -> None:
        record.info[_FILE] = file_identity(path)

    def require_same_file(_: object, record: ConnectionPoolEntry, __: object) -> None:
        # A connection keeps the file that it has opened, even after the file was removed or
        # replaced; its writes would be lost. The pool opens a new connection.
        if record.info[_FILE] != file_identity(path):
            raise DisconnectionError

    event.listen(engine, "do_connect", require_file)
    event.listen(engine, "connect", note_file)
    event.listen(engine, "checkout", require_same_file)
    event.listen(engine, "connect", prepare_sqlite)
    event.listen(engine, "begin", begin_sqlite)


def require_file(_: object, __: object, arguments: Sequence[str], ___: object) -> None:
    """Refuses to open a file that is missing. Raises sqlite3.OperationalError."""
    # SQLite would create an empty file. The migrations create it, with its mode and tables.
    if file_identity(Path(arguments[0])) is None:
        raise sqlite3.OperationalError("the database file is missing")


def prepare_sqlite(connection: Any, _: object) -> None:
    """Sets the journal and the pragmas of a new connection. Raises sqlite3.OperationalError."""
    # `begin_sqlite` sends BEGIN. sqlite3 would send a deferred one, whose upgrade to a write fails
    # without waiting if another transaction is writing.
    connection.isolation_level = None
    cursor = connection.cursor()
    _enable_wal(connection, cursor)
    cursor.execute("PRAGMA synchronous=FULL")  # a committed write survives a power failure
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _enable_wal(connection: Any, cursor: Any) -> None:
    # The first process that opens a new file switches its journal mode permanently. SQLite does not
    # wait for this while another process writes: of several processes that start at the same time,
    # all but one would fail.
    deadline = time.monotonic() + _WAL_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            connection.run_async(lambda _: asyncio.sleep(_WAL_PAUSE))
        else:
            return


def begin_sqlite(connection: Connection) -> None:
    """Begins a transaction that writes; other statements need none."""
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class SQLiteNotifications(Notifications):
    """Notifies by incrementing `PRAGMA user_version`, an application's number in the file header.

    `has_new` first asks SQLite whether the file has changed at all, which SQLite answers from
    shared memory in microseconds, and reads the number only if it has. A process therefore sees a
    notification of another process before its next response. Notifications of this process do not
    count as new, and commits without a notification do not either.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._cursor: sqlite3.Cursor | None = None
        self._file: object = None
        self._data_version = -1
        self._number = -1
        """The latest notification that this process sent or received."""
        self._own = -1
        """The number that the last transaction of this process wrote, committed or not."""

    async def notify(self, connection: AsyncConnection, users: Collection[UUID]) -> None:
        # The transaction holds the only write lock of the file: no other process increments now.
        number = await connection.scalar(sa.text("PRAGMA user_version"))
        self._own = (int(number or 0) + 1) % _VERSIONS
        await connection.exec_driver_sql(f"PRAGMA user_version = {self._own}")

    def committed(self) -> None:
        # If another process notified in between, the next `has_new` has to return True.
        if (self._number + 1) % _VERSIONS == self._own:
            self._number = self._own

    def open(self) -> None:
        """Starts to watch the file. Raises sqlite3.OperationalError if it cannot be opened."""
        self._file = file_identity(self._path)
        # The connection never waits for a lock: `has_new` counts an unanswered query as a change.
        self._cursor = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=0
        ).cursor()

    def has_new(self) -> bool:
        """Returns whether another process has notified since the last call.

        Also returns True on the first call, before `open`, when the file is missing or was
        replaced, and when SQLite does not answer.
        """
        if self._cursor is None or self._is_replaced():
            return True
        try:
            version = self._cursor.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return False
            number = self._cursor.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            self._data_version = -1
            return True
        self._data_version = version
        if number == self._number:
            return False
        self._number = number
        return True

    def _is_replaced(self) -> bool:
        """Returns whether the file is missing or another one; in that case, watches the new one."""
        identity = file_identity(self._path)
        if identity == self._file:
            return False
        if identity is not None:
            self.close()
            self.open()
        return True

    def close(self) -> None:
        """Stops watching."""
        if self._cursor is not None:
            self._cursor.connection.close()
            self._cursor = None
        self._data_version = self._number = -1


class SQLiteInvalidation:
    """Reads the change counter of the file, and tells `on_change` when another process changed it.

    The answer of the file is exact, and does not name the users.
    """

    lag = 0.0

    def __init__(self, notifications: SQLiteNotifications, on_change: Sequence[OnChange]) -> None:
        self._notifications = notifications
        self._on_change = on_change
        self._next_check = 0.0

    def is_current(self) -> bool:
        """Returns True. Tells `on_change` before, if the file has changed since the last check."""
        at = time.monotonic()
        if at >= self._next_check:
            self._next_check = at + _CHECK_INTERVAL
            if self._notifications.has_new():
                self._announce()
        return True

    async def start(self) -> None:
        """Begins to watch the file. Raises sqlite3.OperationalError if it cannot be opened."""
        self._notifications.close()  # still open if an earlier run ended without `stop`
        self._notifications.open()
        self.is_current()  # the first check always reports a change

    async def stop(self) -> None:
        """Stops watching. What was read before counts as changed."""
        self._notifications.close()
        self._announce()

    def _announce(self) -> None:
        for on_change in self._on_change:
            on_change((ALL_USERS,))


def file_identity(path: Path) -> tuple[int, int] | None:
    """Returns the device and inode of the file at `path`, or None if it cannot be found."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
