"""The engine, and the two ways to use it: `read()` for one statement, `transaction()` for changes.

A transaction is committed when its block ends, which is before the service returns and so before
any answer is sent: a commit that fails is an error, never a success told too early. See
`docs/decisions/0004-commit-before-the-answer.md`.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.identity import Event
from authapi.storage.changes import Changes, PostgresChanges, SQLiteChanges
from authapi.storage.patience import impatient_connection
from authapi.storage.tables.events import EventTable
from authapi.storage.tables.one_time_secrets import OneTimeSecretTable
from authapi.storage.tables.outbox import OutboxTable
from authapi.storage.tables.refresh_families import RefreshFamilyTable
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.signing_keys import SigningKeyTable
from authapi.storage.tables.users import UserTable

_WRITE = "authapi_write"
_PING_BOUND = 2.0
_WAL_BOUND, _WAL_PAUSE = 5.0, 0.02
"""Seconds: how long to ask for a write-ahead log in a new SQLite file, and how often."""
_READ_ONLY = "25006"
"""What PostgreSQL says to changes where it only reads: on a standby, after a fail-over."""


@dataclass(frozen=True, slots=True)
class Store:
    """The tables inside one transaction."""

    users: UserTable
    sessions: SessionTable
    events: EventTable
    refresh_families: RefreshFamilyTable
    signing_keys: SigningKeyTable
    one_time_secrets: OneTimeSecretTable
    outbox: OutboxTable
    changed: set[UUID]
    """Users who are not what they were before, or sessions of theirs; the tables fill it."""
    connection: AsyncConnection

    async def take_turn(self, name: str) -> bool:
        """Whether this transaction is the only one that has the turn `name`, until it ends."""
        if self.connection.dialect.name == "sqlite":
            return True  # it has one writer at a time anyway
        taken = sa.func.pg_try_advisory_xact_lock(_turn_of(name))
        return bool(await self.connection.scalar(sa.select(taken)))

    async def wait_turn(self, name: str) -> None:
        """The same, but wait for it, as long as for any lock."""
        if self.connection.dialect.name != "sqlite":
            await self.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_turn_of(name))))


def parse_url(text: str) -> URL:
    """`text` as a URL with its driver: psycopg 3 for PostgreSQL, aiosqlite for SQLite.

    Raises ConfigurationError, without repeating `text`: it may hold a password.
    """
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ConfigurationError("the database URL cannot be read") from None
    if backend in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            # One in memory would be another one for each connection.
            raise ConfigurationError("the database URL must name a file: sqlite:///path")
        return url.set(drivername="sqlite+aiosqlite")
    raise ConfigurationError("the database URL must begin with postgresql:// or sqlite:///")


class Database:
    """One database, through a pool of connections.

    `pool_size` counts connections; `pool_timeout` and `timeout` are seconds: how long to wait for
    a connection, and for one statement or lock. All methods raise StorageUnavailable when the
    database is away, silent, locked, or the pool is exhausted, and within a bound: what the server
    is to give up in time, the client gives up too, as a server behind a broken network cannot.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, pool_timeout: float = 5, timeout: float = 5
    ) -> None:
        self._url = parse_url(url)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0}
        options |= {"pool_timeout": pool_timeout, "hide_parameters": True}
        if self._is_sqlite:
            options["connect_args"] = {"timeout": timeout}
        else:
            milliseconds = int(timeout * 1000)
            options["pool_pre_ping"] = True
            options["connect_args"] = {
                "connect_timeout": max(2, int(timeout)),
                "tcp_user_timeout": milliseconds,
                "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
                " -c timezone=UTC",
                "async_creator_fn": impatient_connection().connect,
            }
        self.engine: AsyncEngine = create_async_engine(self._url, **options)
        self._read_bound = pool_timeout + timeout + 1
        self._write_bound = pool_timeout + 2 * timeout + 1
        self.on_commit: Callable[[Event], None] = _ignore
        """Told of each event once the transaction that holds it is committed."""
        self.on_change: Callable[[Collection[UUID]], None] = _ignore
        """Told which users changed when the transaction that changed them is over."""
        self.on_queued: Callable[[], None] = _nothing
        """Told when a transaction that added to the outbox is committed."""
        self.changes: Changes = (
            SQLiteChanges(self._url.database or "")
            if self._is_sqlite
            else PostgresChanges(self._url)
        )
        # One statement needs no transaction around it: on PostgreSQL that saves two round trips.
        self._reader = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = self.engine.execution_options(**{_WRITE: True})
        # SQLite has one writer. Waiting here is first come, first served; SQLite's own waiting is
        # a lottery that somebody loses when many write.
        self._turn: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if self._is_sqlite else nullcontext()
        )
        if self._is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)

    @property
    def description(self) -> str:
        """Which database this is, for people, without its password."""
        # Without its query either: drivers take a password there too.
        plain = self._url.set(drivername=self._url.get_backend_name(), query={})
        return plain.render_as_string()

    @property
    def connections_in_use(self) -> int:
        """How many connections of the pool somebody has at the moment."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, sa.QueuePool) else 0

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Store]:
        """The tables, each statement on its own. For a single query."""
        with _translated():
            async with asyncio.timeout(self._read_bound), self._reader.connect() as connection:
                yield _store(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        """The tables inside one transaction, committed at the end of the block or not at all."""
        store = None
        try:
            with _translated():
                async with (
                    asyncio.timeout(self._write_bound),
                    self._turn,
                    self._writer.begin() as connection,
                ):
                    store = _store(connection)
                    yield store
                    if store.changed:
                        await self.changes.announce(connection, store.changed)
                if store.changed:
                    self.changes.committed()
        finally:
            # Also after a failure: a commit whose answer was lost may have happened.
            if store is not None and store.changed:
                self.on_change(store.changed)
        for added in store.events.added:
            self.on_commit(added)
        if store.outbox.added:
            self.on_queued()

    async def ping(self) -> None:
        """Return if the database answers within two seconds: probes do not wait longer either."""
        with _translated():
            async with asyncio.timeout(_PING_BOUND), self._reader.connect() as connection:
                await connection.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection. What is asked after that opens new ones."""
        await self.engine.dispose()
        if self._is_sqlite:
            # A lock belongs to the event loop that first waited for it; the next may be another.
            self._turn = asyncio.Lock()


class _translated:  # noqa: N801  # reads as a verb at its places of use
    """Turns what the driver raises when the database is away into StorageUnavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PoolTimeout | OperationalError | InterfaceError | TimeoutError):
            raise StorageUnavailable from error
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise StorageUnavailable from error
        if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") == _READ_ONLY:
            raise StorageUnavailable from error


def _store(connection: AsyncConnection) -> Store:
    changed: set[UUID] = set()
    return Store(
        users=UserTable(connection, changed),
        sessions=SessionTable(connection, changed),
        events=EventTable(connection),
        refresh_families=RefreshFamilyTable(connection),
        signing_keys=SigningKeyTable(connection),
        one_time_secrets=OneTimeSecretTable(connection),
        outbox=OutboxTable(connection),
        changed=changed,
        connection=connection,
    )


def _turn_of(name: str) -> sa.ColumnElement[int]:
    return sa.func.hashtextextended(f"authapi {name}", 0)


def _ignore(_: object) -> None:
    return None


def _nothing() -> None:
    return None


def _prepare_sqlite(connection: Any, _: object) -> None:
    # BEGIN is ours to send (`_begin_sqlite`): sqlite3 would send a deferred one, whose upgrade to a
    # write fails at once when another writer is there, without waiting.
    connection.isolation_level = None
    cursor = connection.cursor()
    _write_ahead(connection, cursor)
    cursor.execute("PRAGMA synchronous=FULL")  # an answered write survives a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _write_ahead(connection: Any, cursor: Any) -> None:
    # The first who opens a new file changes its mode, for good, and SQLite does not wait for that
    # while another process writes: of several that start at once, all but one would fail.
    deadline = time.monotonic() + _WAL_BOUND
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            connection.run_async(lambda _: asyncio.sleep(_WAL_PAUSE))
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITE):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
