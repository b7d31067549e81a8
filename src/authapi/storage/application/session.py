"""A synchronous Session of the application, whose transaction the services of authapi join.

The services are asynchronous. Each of their statements runs in the thread that owns the Session,
while that thread waits for the service. The application commits or rolls back its Session itself.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, CursorResult, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from authapi.errors import ConfigurationError
from authapi.storage.transaction import Transaction

if TYPE_CHECKING:
    from authapi.storage.database import Database

T = TypeVar("T")

_DRIVERS = {"postgresql": "psycopg", "sqlite": "pysqlite"}
_ENDS = "authapi_ends"
"""The key in the `info` of a Session that holds what follows its transaction."""
_POLL = 1.0
"""Seconds between two looks at the event loop, which may have ended without an answer."""
_IDENTITY = sa.text("SELECT current_database(), pg_postmaster_start_time()")


class CallerThread:
    """Runs functions in a thread that waits for a coroutine on an event loop of another thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    async def run(self, function: Callable[[], T]) -> T:
        """Runs `function` in the waiting thread; returns its result, or raises its error."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def settle(method: Callable[[Any], None], value: object) -> None:
            if not result.done():
                method(value)

        def work() -> None:
            try:
                value = function()
            except BaseException as error:  # raised in the coroutine
                loop.call_soon_threadsafe(settle, result.set_exception, error)
            else:
                loop.call_soon_threadsafe(settle, result.set_result, value)

        self._queue.put(work)
        return await result

    def serve(self, answer: "Future[T]", is_alive: Callable[[], bool]) -> T:
        """Runs the functions until `answer` is there; returns it, or raises its error.

        Raises RuntimeError if the event loop has ended without an answer.
        """
        answer.add_done_callback(lambda _: self._queue.put(None))
        while (work := self._next(answer, is_alive)) is not None:
            work()
        return answer.result()

    def _next(self, answer: "Future[T]", is_alive: Callable[[], bool]) -> Callable[[], None] | None:
        while True:
            try:
                return self._queue.get(timeout=_POLL)
            except Empty:
                if not answer.done() and not is_alive():
                    raise RuntimeError("the event loop of authapi ended during this call") from None


class BorrowedConnection:
    """The connection of a Session, with the methods of `AsyncConnection` that the tables use."""

    def __init__(self, connection: Connection, thread: CallerThread) -> None:
        self._connection = connection
        self._thread = thread

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        def run() -> Any:
            result: CursorResult[Any] = self._connection.execute(statement, parameters)
            # A cursor of sqlite3 is read in the thread that has opened its connection.
            return result.freeze()() if result.returns_rows else result

        return await self._thread.run(run)

    async def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return (await self.execute(statement, parameters)).scalar()

    async def exec_driver_sql(self, statement: str) -> None:
        await self._thread.run(lambda: self._connection.exec_driver_sql(statement).close())

    @asynccontextmanager
    async def begin_nested(self) -> AsyncIterator[None]:
        savepoint = await self._thread.run(self._connection.begin_nested)
        try:
            yield
        except BaseException:
            if savepoint.is_active:
                await self._thread.run(savepoint.rollback)
            raise
        await self._thread.run(savepoint.commit)


class BorrowedTransaction(Transaction):
    """The part of the application in a joined transaction: hooks execute their statements in it."""

    __slots__ = ()

    def __init__(self, connection: BorrowedConnection, changed: set[UUID]) -> None:
        super().__init__(cast("AsyncConnection", connection), changed)

    @property
    def session(self) -> AsyncSession:
        raise RuntimeError("a synchronous Session is joined: use tx.execute()")


def connection_of(session: Session) -> Connection:
    """Returns the connection of the transaction of `session`, which is begun if there is none.

    Pending changes of the session are written first. Raises ConfigurationError if authapi cannot
    join the transaction, TypeError if `session` is not a synchronous Session, and the errors of
    SQLAlchemy.
    """
    _check_type(session)
    try:
        session.flush()
        connection = session.connection()
    except sa.exc.UnboundExecutionError:
        raise _refused("has no single engine: create it with Session(engine)") from None
    name, driver = connection.dialect.name, connection.dialect.driver
    if _DRIVERS.get(name) != driver:
        raise _refused(
            f"has the driver {name}+{driver}, and authapi joins psycopg and sqlite3 only"
        )
    raw: Any = connection.connection.driver_connection
    if name == "sqlite":
        _check_sqlite(connection, raw)
    else:
        if raw.autocommit:
            raise _refused("is in autocommit mode, which has no transaction")
        level = connection.scalar(sa.text("SELECT current_setting('transaction_isolation')"))
        if level != "read committed":
            raise _refused(f"has the isolation level {level}, and authapi needs read committed")
    return connection


def _check_type(session: object) -> None:
    if not isinstance(session, Session):
        raise TypeError(f"expected a synchronous Session, not {type(session).__name__}")


def _check_sqlite(connection: Connection, raw: Any) -> None:
    # A driver in manual mode whose transaction the application begins itself can be joined.
    is_manual = getattr(raw, "autocommit", -1) is True or raw.isolation_level is None
    if is_manual and not raw.in_transaction:
        raise _refused("is in autocommit mode, which has no transaction")
    if not connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one():
        raise _refused("has foreign keys off: execute PRAGMA foreign_keys=ON on each connection")


def begin(connection: Connection) -> None:
    """Begins the transaction in the driver too, if it has none. Raises the errors of SQLAlchemy.

    sqlite3 begins a transaction before the first change only, and not before a savepoint.
    """
    raw: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite" and not raw.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def identity_of(connection: Connection) -> object:
    """Returns a value that equals that of `identity` for the same database.

    Raises the errors of SQLAlchemy.
    """
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("PRAGMA database_list").all()
        return _file_identity(next(str(row[2]) for row in rows if row[1] == "main"))
    return tuple(connection.execute(_IDENTITY).one())


async def identity(database: "Database") -> object:
    """Returns a value that equals that of another connection to the same database.

    Raises StorageUnavailable if the database does not answer.
    """
    if database.is_sqlite:
        return _file_identity(database.file)
    async with database.read() as store:
        return tuple((await store.connection.execute(_IDENTITY)).one())


def _file_identity(path: str | Path) -> object:
    try:
        status = os.stat(path)  # noqa: PTH116  # an empty path is that of an in-memory database
    except OSError:
        return object()  # equals nothing
    return status.st_dev, status.st_ino


def check_same(theirs: object, ours: object) -> None:
    """Raises ConfigurationError unless both identities are those of one database."""
    if theirs != ours:
        raise _refused("is connected to another database than authapi")


def on_end(session: Session, callback: Callable[[bool], None]) -> None:
    """Calls `callback` once, at the end of the transaction of `session`: True if committed."""
    ends = session.info.get(_ENDS)
    if ends is None:
        ends = session.info[_ENDS] = _Ends()
        event.listen(session, "after_commit", ends.note_commit)
        event.listen(session, "after_transaction_end", ends.end)
    ends.callbacks.append(callback)


class _Ends:
    """What follows the transaction of a Session. SQLAlchemy cannot remove a running listener."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[bool], None]] = []
        self._is_committed = False

    def note_commit(self, session: Session) -> None:
        # Also called for savepoints, whose end decides nothing.
        self._is_committed = session.get_nested_transaction() is None

    def end(self, _: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is not None:
            return
        callbacks, is_committed = self.callbacks, self._is_committed
        self.callbacks, self._is_committed = [], False
        for callback in callbacks:
            callback(is_committed)


def _refused(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the Session cannot be joined: it {reason}")
