"""The database: `read()` for a single statement, `transaction()` for writes.

A transaction is committed at the end of its block, so before the service returns and before a
response is sent. If the commit fails, the request fails. See
`docs/decisions/0004-commit-before-the-response.md`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from authapi.domain.client import current_client
from authapi.domain.events import Event
from authapi.errors import AccountInUse, StorageUnavailable
from authapi.storage.application.engine import ApplicationEngine, SiblingEngine
from authapi.storage.application.joining import joined_store, savepoint
from authapi.storage.application.session import BorrowedConnection, BorrowedTransaction
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
from authapi.storage.sqlite.preparation import WRITES, begin_sqlite, prepare_sqlite, require_file
from authapi.storage.tables.email_tokens import EmailTokenTable
from authapi.storage.tables.events import EventTable
from authapi.storage.tables.outbox import OutboxTable
from authapi.storage.tables.refresh_families import RefreshFamilyTable
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.signing_keys import SigningKeyTable
from authapi.storage.tables.usernames import UsernameTable
from authapi.storage.tables.users import UserTable
from authapi.storage.transaction import Transaction
from authapi.storage.urls import parse_url

_log = logging.getLogger(__name__)

_PING_TIMEOUT = 2.0
"""Seconds."""
_READ_ONLY_QUERY = "SELECT current_setting('transaction_read_only')::boolean"
"""Also true on a standby (PostgreSQL, Hot Standby Parameter Reference)."""
_STALE_STATEMENTS = frozenset({"26000", "0A000"})
"""SQLSTATEs of a prepared statement that is unknown, or whose table was altered since."""
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
    usernames: UsernameTable
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

    `engine` is one of the application, which is used as it is and not closed; by default, the
    database has its own. `pool_size` is the maximum number of connections. `pool_timeout` is the
    maximum wait for a connection, `timeout` the maximum time of a statement or a wait for a lock,
    both in seconds.

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
        engine: AsyncEngine | None = None,
        on_commit: Callable[[Event], None] = _ignore,
        on_change: Callable[[Collection[UUID]], None] = _ignore,
        on_queued: Callable[[], None] = _do_nothing,
    ) -> None:
        self._url = parse_url(url)
        self.tables = tables_of(names)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.file = Path(self._url.database or "")  # for SQLite only
        longest_transaction = pool_timeout + 3 * timeout + 2  # seconds, with its commit
        self._theirs = None
        if engine is not None:
            self._theirs = ApplicationEngine(engine, timeout=timeout, max_idle=longest_transaction)
            self.engine = engine
            self._reader, self._writer = self._theirs.reader, self._theirs.writer
        else:
            options = {"pool_size": pool_size, "pool_timeout": pool_timeout}
            self.engine = self._own_engine(options, timeout, max_idle=longest_transaction)
            # A single statement needs no transaction: on PostgreSQL that saves two round trips.
            self._reader = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            self._writer = self.engine.execution_options(**{WRITES: True})
        self._leases = Leases(
            end_timeout=timeout + 1, restore=None if self._theirs is None else self._theirs.restore
        )
        self._read_timeout = pool_timeout + timeout + 1
        self._write_timeout = pool_timeout + 2 * timeout + 1
        self._on_commit, self._on_change, self._on_queued = on_commit, on_change, on_queued
        self.notifications: Notifications = (
            SQLiteNotifications(self._url.database or "")
            if self.is_sqlite
            else PostgresNotifications(self._url)
        )
        # SQLite has a single writer, and its own lock is not fair: with many writers, some of them
        # time out. This lock is first come, first served.
        self._write_lock = asyncio.Lock() if self.is_sqlite else None

    def _own_engine(
        self, pool_options: dict[str, Any], timeout: float, *, max_idle: float
    ) -> AsyncEngine:
        options: dict[str, Any] = {"max_overflow": 0, "hide_parameters": True, **pool_options}
        if self.is_sqlite:
            options["connect_args"] = {
                "timeout": timeout,
                "async_creator_fn": StoppableConnection,
            }
        else:
            options["pool_pre_ping"] = True
            parameters = service_parameters(self._url, timeout=timeout, max_idle=max_idle)
            options["connect_args"] = {
                "connect_timeout": max(2, int(timeout)),
                "tcp_user_timeout": int(timeout * 1000),
                "async_creator_fn": pool_connection_factory(parameters),
            }
        engine = create_async_engine(self._url, **options)
        if self.is_sqlite:
            event.listen(engine.sync_engine, "do_connect", require_file)
            event.listen(engine.sync_engine, "connect", self._note_file)
            event.listen(engine.sync_engine, "checkout", self._require_same_file)
            event.listen(engine.sync_engine, "connect", prepare_sqlite)
            event.listen(engine.sync_engine, "begin", begin_sqlite)
        else:
            event.listen(engine.sync_engine, "handle_error", _invalidate_stale)
        return engine

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
            if (joined := joined_store(self)) is not None:
                yield joined
                return
            async with self._leases.acquire(self._reader, max_duration=self._read_timeout) as lease:
                yield _store(lease.connection, self.tables)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        """Gives access to the tables inside one transaction.

        The transaction is committed at the end of the block, and rolled back if the block raises.
        Inside `joining`, the block is a savepoint of the joined transaction.

        Raises AccountInUse if a row of the application refers to an account that the block deletes:
        at the statement, or at the commit if its foreign key is deferred.
        """
        store: Store | None = None
        try:
            with translate_driver_errors():
                if (store := joined_store(self)) is not None:
                    async with savepoint(store):
                        yield store
                    return
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

    def borrow(self, connection: BorrowedConnection) -> Store:
        """Returns the tables in a transaction that the application ends. Then call `end_borrowed`.

        Each change of the tables is made inside `joining`, and followed by a notification.
        """
        store = _store(cast("AsyncConnection", connection), self.tables)
        return replace(store, transaction=BorrowedTransaction(connection, store.changed))

    def end_borrowed(self, store: Store, *, is_committed: bool) -> None:
        """Does what follows a transaction of `borrow`, on the event loop of this database."""
        outcome = TransactionOutcome.COMMITTED if is_committed else TransactionOutcome.ROLLED_BACK
        self._after_transaction(store, outcome)

    async def ping(self) -> None:
        """Checks within two seconds, for readiness probes, that the database accepts writes.

        On SQLite, it begins a transaction that changes no row. On PostgreSQL, it asks the server
        whether transactions are read-only.
        """
        with translate_driver_errors():
            if self.is_sqlite:
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

    async def limitations(self) -> Sequence[str]:
        """Returns what cannot be set on connections of an engine of the application, as clauses.

        Raises ConfigurationError if no transaction can work on them.
        """
        with translate_driver_errors():
            return [] if self._theirs is None else await self._theirs.limitations()

    def _note_file(self, _: object, record: ConnectionPoolEntry) -> None:
        record.info[_FILE] = file_identity(self.file)

    def _require_same_file(self, _: object, record: ConnectionPoolEntry, __: object) -> None:
        # A connection keeps the file that it has opened, even after the file was removed or
        # replaced; its writes would be lost. The pool opens a new connection.
        if record.info[_FILE] != file_identity(self.file):
            raise DisconnectionError

    async def close(self) -> None:
        """Closes every connection, except those of an engine of the application.

        Later calls open new ones.
        """
        await self._leases.wait_released()
        if self._theirs is None or isinstance(self.engine, SiblingEngine):
            await self.engine.dispose()
        if self.is_sqlite:
            # A lock is bound to the event loop that first waited for it; the next may be another.
            self._write_lock = asyncio.Lock()


def _store(connection: AsyncConnection, tables: Tables) -> Store:
    changed: set[UUID] = set()
    return Store(
        users=UserTable(connection, tables, changed),
        usernames=UsernameTable(connection, tables),
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
