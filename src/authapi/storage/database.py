"""The database: `read()` for a single statement, `transaction()` for writes.

A transaction is committed at the end of its block, so before the service returns and before a
response is sent. If the commit fails, the request fails. See
`docs/decisions/0004-commit-before-the-response.md`.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.exc import DisconnectionError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from authapi.domain.client import current_client
from authapi.domain.events import Event
from authapi.errors import AccountInUse, StorageUnavailable
from authapi.storage.driver_errors import (
    TransactionOutcome,
    is_reference_violation,
    translate_driver_errors,
)
from authapi.storage.leases import Leases
from authapi.storage.models import Tables, tables_of
from authapi.storage.notifications import (
    Notifications,
    PostgresNotifications,
    SQLiteNotifications,
    file_identity,
)
from authapi.storage.postgres.connection import pool_connection_factory
from authapi.storage.postgres.session_parameters import service_parameters
from authapi.storage.schema.names import DEFAULT_NAMES, TableNames
from authapi.storage.sqlite.connections import StoppableConnection
from authapi.storage.tables.email_tokens import EmailTokenTable
from authapi.storage.tables.events import EventTable
from authapi.storage.tables.outbox import OutboxTable
from authapi.storage.tables.refresh_families import RefreshFamilyTable
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.signing_keys import SigningKeyTable
from authapi.storage.tables.users import UserTable
from authapi.storage.transaction import Transaction
from authapi.storage.urls import parse_url

_log = logging.getLogger(__name__)

_WRITE = "authapi_write"
"""The execution option of connections whose transactions write."""
_PING_TIMEOUT = 2.0
"""Seconds."""
_WAL_TIMEOUT, _WAL_PAUSE = 5.0, 0.02
"""Seconds to retry the switch of a new SQLite file to a write-ahead log, and between retries."""
_READ_ONLY_QUERY = "SELECT current_setting('transaction_read_only')::boolean"
"""Also true on a standby (PostgreSQL, Hot Standby Parameter Reference)."""
_STALE_STATEMENTS = frozenset({"26000", "0A000"})
"""SQLSTATEs of a prepared statement that is unknown, or whose result type changed since a table was
altered."""
_FILE = "authapi_file"
"""The key in the `info` of a connection that holds the identity of its SQLite file."""


def noop_write(tables: Tables) -> sa.Delete:
    """Returns a write without effect.

    It fails on a read-only SQLite file, where `BEGIN IMMEDIATE` succeeds.
    """
    return sa.delete(tables.users).where(sa.false())


def _ignore(_: object) -> None:
    return None


def _do_nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Store:
    """The tables inside one transaction."""

    users: UserTable
    sessions: SessionTable
    events: EventTable
    refresh_families: RefreshFamilyTable
    signing_keys: SigningKeyTable
    email_tokens: EmailTokenTable
    outbox: OutboxTable
    tables: Tables
    changed: set[UUID]
    """Users that this transaction changed, or whose sessions it changed. The tables add to it."""
    connection: AsyncConnection
    transaction: Transaction
    """For statements of the application, in the same transaction."""
    on_end: list[Callable[[bool], None]]
    """Called at the end of the transaction: with False if it was rolled back, True otherwise."""

    async def try_advisory_lock(self, name: str) -> bool:
        """Takes the advisory lock `name` until the transaction ends, without waiting.

        Returns whether it was taken. On SQLite, always: it has a single writer.
        """
        if self.connection.dialect.name == "sqlite":
            return True
        locked = sa.func.pg_try_advisory_xact_lock(self._lock_key(name))
        return bool(await self.connection.scalar(sa.select(locked)))

    async def advisory_lock(self, name: str) -> None:
        """Takes the advisory lock `name` until the transaction ends.

        Waits for it up to the `timeout` of the database. Does nothing on SQLite, which has a single
        writer.
        """
        if self.connection.dialect.name != "sqlite":
            locked = sa.func.pg_advisory_xact_lock(self._lock_key(name))
            await self.connection.execute(sa.select(locked))

    def _lock_key(self, name: str) -> sa.ColumnElement[int]:
        return sa.func.hashtextextended(f"{self.tables.names.lock} {name}", 0)


class Database:
    """A database, accessed through a connection pool. Its tables have the names `names`.

    `pool_size` is the maximum number of connections. `pool_timeout` is the maximum wait for a
    connection, `timeout` the maximum time of a statement or a wait for a lock, both in seconds.

    `on_commit` is called with each event after its transaction was committed; `on_change` with the
    changed users after a transaction ended, even if it was rolled back; `on_queued` after a
    transaction added outbox entries and was, or may have been, committed.

    The constructor raises ConfigurationError for an invalid `url`, and without the extra `postgres`
    for PostgreSQL. All other methods raise StorageUnavailable if the database is unreachable, does
    not respond, is locked or read-only, or if the pool is exhausted. They do so within a bound that
    the client enforces as well, because a server behind a broken network cannot enforce it.
    """

    def __init__(
        self,
        url: str,
        *,
        names: TableNames = DEFAULT_NAMES,
        pool_size: int = 10,
        pool_timeout: float = 5,
        timeout: float = 5,
        on_commit: Callable[[Event], None] = _ignore,
        on_change: Callable[[Collection[UUID]], None] = _ignore,
        on_queued: Callable[[], None] = _do_nothing,
    ) -> None:
        self._url = parse_url(url)
        self.tables = tables_of(names)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._file = Path(self._url.database or "")  # for SQLite only
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0}
        options |= {"pool_timeout": pool_timeout, "hide_parameters": True}
        if self._is_sqlite:
            options["connect_args"] = {
                "timeout": timeout,
                "async_creator_fn": StoppableConnection,
            }
        else:
            milliseconds = int(timeout * 1000)
            options["pool_pre_ping"] = True
            longest_transaction = pool_timeout + 3 * timeout + 2  # seconds, with its commit
            parameters = service_parameters(
                self._url, timeout=timeout, max_idle=longest_transaction
            )
            options["connect_args"] = {
                "connect_timeout": max(2, int(timeout)),
                "tcp_user_timeout": milliseconds,
                "async_creator_fn": pool_connection_factory(parameters),
            }
        self.engine: AsyncEngine = create_async_engine(self._url, **options)
        self._leases = Leases(self.engine, end_timeout=timeout + 1)
        self._read_timeout = pool_timeout + timeout + 1
        self._write_timeout = pool_timeout + 2 * timeout + 1
        self._on_commit, self._on_change, self._on_queued = on_commit, on_change, on_queued
        self.notifications: Notifications = (
            SQLiteNotifications(self._url.database or "")
            if self._is_sqlite
            else PostgresNotifications(self._url)
        )
        # A single statement needs no transaction: on PostgreSQL that saves two round trips.
        self._reader = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = self.engine.execution_options(**{_WRITE: True})
        # SQLite has a single writer, and its own lock is not fair: with many writers, some of them
        # time out. This lock is first come, first served.
        self._write_lock = asyncio.Lock() if self._is_sqlite else None
        if self._is_sqlite:
            event.listen(self.engine.sync_engine, "do_connect", _require_file)
            event.listen(self.engine.sync_engine, "connect", self._note_file)
            event.listen(self.engine.sync_engine, "checkout", self._require_same_file)
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine.sync_engine, "handle_error", _invalidate_stale)

    @property
    def description(self) -> str:
        """The URL of the database for logs, without its password."""
        # The query is removed too: it may contain a password.
        plain = self._url.set(drivername=self._url.get_backend_name(), query={})
        return plain.render_as_string()

    @property
    def connections_in_use(self) -> int:
        """The number of connections that are checked out of the pool."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, sa.QueuePool) else 0

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Store]:
        """Gives access to the tables outside of a transaction, for a single query."""
        with translate_driver_errors():
            async with self._leases.acquire(self._reader, max_duration=self._read_timeout) as lease:
                yield _store(lease.connection, self.tables)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        """Gives access to the tables inside one transaction.

        The transaction is committed at the end of the block, and rolled back if the block raises.

        Raises AccountInUse if a row of another application refers to an account that the block
        deletes. Such a foreign key may refuse at the statement, or at the commit if it is deferred.
        """
        store: Store | None = None
        try:
            with translate_driver_errors():
                async with self._leases.acquire(
                    self._writer,
                    max_duration=self._write_timeout,
                    begins=True,
                    write_lock=self._write_lock,
                ) as lease:
                    store = _store(lease.connection, self.tables)
                    lease.on_end = partial(self._after_transaction, store)
                    yield store
                    if store.transaction.has_session:
                        await store.transaction.flush()
                    if store.changed:
                        await self.notifications.notify(lease.connection, store.changed)
        except IntegrityError as error:
            if store is not None and store.users.has_deleted and is_reference_violation(error):
                raise AccountInUse from error
            raise

    def _after_transaction(self, store: Store, outcome: TransactionOutcome) -> None:
        # An unknown outcome counts as committed, so that mail that may be sent counts in its limit.
        if store.transaction.has_session:
            store.transaction.detach()
        for callback in store.on_end:
            callback(outcome is not TransactionOutcome.ROLLED_BACK)
        try:
            if store.changed and outcome is TransactionOutcome.COMMITTED:
                self.notifications.committed()
        finally:
            # Even if the commit failed: the transaction may have been committed all the same.
            if store.changed:
                self._on_change(store.changed)
        if outcome is TransactionOutcome.COMMITTED:
            for event_ in store.events.added:
                self._on_commit(event_)
        elif outcome is TransactionOutcome.UNKNOWN:
            _log_unknown_outcome(store.events.added)
        if store.outbox.added and outcome is not TransactionOutcome.ROLLED_BACK:
            self._on_queued()

    async def ping(self) -> None:
        """Checks within two seconds, for readiness probes, that the database accepts writes.

        On SQLite, it begins a transaction that changes no row. On PostgreSQL, it asks the server
        whether transactions are read-only.
        """
        with translate_driver_errors():
            if self._is_sqlite:
                async with self._leases.acquire(
                    self._writer,
                    max_duration=_PING_TIMEOUT,
                    begins=True,
                    write_lock=self._write_lock,
                ) as lease:
                    await lease.connection.execute(noop_write(self.tables))
                    return
            async with self._leases.acquire(self._reader, max_duration=_PING_TIMEOUT) as lease:
                if await lease.connection.scalar(sa.text(_READ_ONLY_QUERY)):
                    raise StorageUnavailable

    def _note_file(self, _: object, record: ConnectionPoolEntry) -> None:
        record.info[_FILE] = file_identity(self._file)

    def _require_same_file(self, _: object, record: ConnectionPoolEntry, __: object) -> None:
        # A connection keeps the file that it has opened, even after the file was removed or
        # replaced; its writes would be lost. The pool opens a new connection.
        if record.info[_FILE] != file_identity(self._file):
            raise DisconnectionError

    async def close(self) -> None:
        """Closes every connection. Later calls open new ones."""
        await self._leases.wait_released()
        await self.engine.dispose()
        if self._is_sqlite:
            # A lock is bound to the event loop that first waited for it; the next may be another.
            self._write_lock = asyncio.Lock()


def _store(connection: AsyncConnection, tables: Tables) -> Store:
    changed: set[UUID] = set()
    return Store(
        users=UserTable(connection, tables, changed),
        sessions=SessionTable(connection, tables, changed),
        events=EventTable(connection, tables),
        refresh_families=RefreshFamilyTable(connection, tables),
        signing_keys=SigningKeyTable(connection, tables),
        email_tokens=EmailTokenTable(connection, tables),
        outbox=OutboxTable(connection, tables),
        tables=tables,
        changed=changed,
        connection=connection,
        transaction=Transaction(connection, changed),
        on_end=[],
    )


def _log_unknown_outcome(events: Sequence[Event]) -> None:
    # The events are in the table exactly if the transaction was committed: an operator can look up
    # their ids.
    _log.error(
        "the response to COMMIT was lost: the transaction may or may not have been committed",
        extra={
            "request_id": current_client().request_id,
            "events": [f"{event.type.value} {event.id}" for event in events] or None,
        },
    )


def _invalidate_stale(context: ExceptionContext) -> None:
    # A session that does not know a statement prepared on it is another session: a pooler was put
    # in front of the server. The pool replaces all its connections, and each detects the pooler.
    if getattr(context.original_exception, "sqlstate", "") in _STALE_STATEMENTS:
        context.is_disconnect = True


def _require_file(_: object, __: object, arguments: Sequence[str], ___: object) -> None:
    # SQLite would create an empty file. The migrations create it, with its mode and tables.
    if file_identity(Path(arguments[0])) is None:
        raise sqlite3.OperationalError("the database file is missing")


def _prepare_sqlite(connection: Any, _: object) -> None:
    # `_begin_sqlite` sends BEGIN. sqlite3 would send a deferred one, whose upgrade to a write fails
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


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITE):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
