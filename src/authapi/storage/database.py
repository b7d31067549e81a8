"""The database: `read()` for a single statement, `transaction()` for writes.

A transaction is committed at the end of its block, so before the service returns and before a
response is sent. If the commit fails, the request fails. See
`docs/decisions/0004-commit-before-the-response.md`.

All transactions of this package take their locks in the same order, so they do not deadlock with
each other. A transaction of another program may use a different order. A distributed database may
also abort a transaction with a serialization failure in READ COMMITTED. `retry_on_conflict` repeats
a transaction after either.
"""

import asyncio
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from secrets import randbelow
from typing import Any, Final, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from authapi.domain.events import Event
from authapi.errors import AccountInUse, StorageUnavailable
from authapi.storage.application.engine import ApplicationEngine, SiblingEngine
from authapi.storage.application.session import (
    IDENTITY_QUERY,
    BorrowedConnection,
    BorrowedTransaction,
    path_identity,
)
from authapi.storage.driver_errors import (
    TransactionOutcome,
    is_reference_violation,
    log_unknown_outcome,
    translate_driver_errors,
)
from authapi.storage.leases import Leases
from authapi.storage.models import tables_of
from authapi.storage.names import DEFAULT_NAMES, TableNames
from authapi.storage.notifications import Notifications, OnChange, PostgresNotifications
from authapi.storage.postgres.direct_reads import DirectReads
from authapi.storage.postgres.engine import postgres_engine
from authapi.storage.postgres.servers import ReachedServer
from authapi.storage.schema.writability import READ_ONLY_QUERY, noop_write
from authapi.storage.sqlite import (
    WRITES,
    SQLiteNotifications,
    StoppableConnection,
    listen_to_engine,
)
from authapi.storage.store import JOINED, Store, savepoint
from authapi.storage.tables.sessions import SessionLookups
from authapi.storage.urls import parse_url

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logging.getLogger(__name__)

_PING_TIMEOUT = 2.0
"""Seconds."""

_CONFLICT_STATES = frozenset({"40001", "40P01"})
"""SQLSTATE `serialization_failure` and `deadlock_detected`: the transaction was rolled back, and a
retry may succeed (PostgreSQL manual, section 13.5)."""

_RETRY_PAUSES: Final = (0.02, 0.1)
"""Seconds before the second and the third attempt, on average."""


def _ignore(_: object) -> None:
    return None


def _do_nothing() -> None:
    return None


class Database:
    """A database, accessed through a connection pool. Its tables have the names `names`.

    `engine` is one of the application, which is used as it is and not closed; by default, the
    database has its own. `direct_url` is the URL without a pooler, for notifications; by default
    `url`. `shares_sessions` declares a pooler at `url` in transaction mode.

    `pool_size` is the maximum number of connections. `pool_timeout` is the maximum wait for a
    connection, `timeout` the maximum time of a statement or a wait for a lock, both in seconds.

    `on_commit` is called with each event after its transaction was committed; all `on_change` with
    the changed users after a transaction ended, even if it was rolled back; `on_queued` after a
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
        direct_url: str | None = None,
        shares_sessions: bool = False,
        on_commit: Callable[[Event], None] = _ignore,
        on_change: Sequence[OnChange] = (),
        on_queued: Callable[[], None] = _do_nothing,
    ) -> None:
        self._url = parse_url(url)
        self.tables = tables_of(names)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.file = Path(self._url.database or "")  # for SQLite only
        longest_transaction = pool_timeout + 3 * timeout + 2  # seconds, with its commit
        reached = ReachedServer()
        self._theirs, self.direct_reads = None, None
        if engine is not None:
            self._theirs = ApplicationEngine(engine, timeout=timeout, max_idle=longest_transaction)
            self.engine = engine
            self._reader, self._writer = self._theirs.reader, self._theirs.writer
        else:
            # Of the connections of PostgreSQL, some are for look-ups of callers only.
            direct = 0 if self.is_sqlite else pool_size * 3 // 10
            options = {"pool_size": pool_size - direct, "pool_timeout": pool_timeout}
            if self.is_sqlite:
                # Only `begin_sqlite` begins a transaction. With AUTOCOMMIT, SQLAlchemy would send a
                # statement to end that mode, and a connection whose statement fails never returns.
                self.engine = self._reader = self._sqlite_engine(options, timeout)
                self._writer = self.engine.execution_options(**{WRITES: True})
            else:
                own = postgres_engine(
                    self._url,
                    options,
                    reached,
                    timeout=timeout,
                    max_idle=longest_transaction,
                    is_shared=shares_sessions,
                )
                self.engine, self._reader, self._writer = own.engine, own.reader, own.writer
                if direct:
                    limits = {"pool_timeout": pool_timeout, "timeout": pool_timeout + timeout + 1}
                    self.direct_reads = DirectReads(
                        self.engine, own.connect_arguments, size=direct, **limits
                    )
        self._leases = Leases(
            end_timeout=timeout + 1, restore=None if self._theirs is None else self._theirs.restore
        )
        self._shares_sessions = shares_sessions
        self._read_timeout = pool_timeout + timeout + 1
        self._write_timeout = self._read_timeout + timeout
        self._on_commit, self._on_change, self._on_queued = on_commit, on_change, on_queued
        self.notifications: Notifications = (
            SQLiteNotifications(self._url.database or "")
            if self.is_sqlite
            else PostgresNotifications(parse_url(direct_url or url), self.read, reached)
        )
        # SQLite has a single writer, and its own lock is not fair: with many writers, some of them
        # time out. This lock is first come, first served.
        self._write_lock = asyncio.Lock() if self.is_sqlite else None

    def _sqlite_engine(self, options: Mapping[str, Any], timeout: float) -> AsyncEngine:
        engine = create_async_engine(
            self._url,
            **options,
            max_overflow=0,
            hide_parameters=True,
            connect_args={"timeout": timeout, "async_creator_fn": StoppableConnection},
        )
        listen_to_engine(engine.sync_engine, self.file)
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
        direct = 0 if self.direct_reads is None else self.direct_reads.in_use
        return direct + (pool.checkedout() if isinstance(pool, sa.QueuePool) else 0)

    @property
    def sessions(self) -> SessionLookups:
        """The look-ups of callers, each a single query outside of a transaction."""
        return SessionLookups(self.rows, self.tables)

    @property
    def _joined_store(self) -> Store | None:
        joined = JOINED.get()
        return joined[1] if joined is not None and joined[0] is self else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Store]:
        """Gives access to the tables outside of a transaction, for a single query."""
        with translate_driver_errors():
            if (joined := self._joined_store) is not None:
                yield joined
                return
            async with self._leases.acquire(self._reader, max_duration=self._read_timeout) as lease:
                yield Store.of(lease.connection, self.tables)

    async def rows(self, statement: sa.Select[Any], values: Mapping[str, object]) -> Sequence[Any]:
        """Returns the rows of a statement that is built once, with `values` for its parameters."""
        if self.direct_reads is not None and self._joined_store is None:
            with translate_driver_errors():
                return await self.direct_reads.rows(statement, values)
        async with self.read() as store:
            rows: Sequence[Any] = (await store.connection.execute(statement, values)).all()
            return rows

    async def change(self, statement: sa.Update, values: Mapping[str, object]) -> Sequence[Any]:
        """Runs a statement that is built once as a transaction; returns the rows of RETURNING.

        It must not change a user, and add no event.
        """
        # On a shared session, only a transaction has the parameters that a change needs.
        direct = None if self._shares_sessions else self.direct_reads
        if direct is not None and self._joined_store is None:
            with translate_driver_errors():
                return await direct.rows(statement, values)
        async with self.transaction() as store:
            rows: Sequence[Any] = (await store.connection.execute(statement, values)).all()
            return rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        """Gives access to the tables inside one transaction.

        The transaction is committed at the end of the block, and rolled back if the block raises.
        Inside `joining`, the block is a savepoint of the joined transaction.

        Raises AccountInUse if a deferred foreign key of the application refers to a deleted
        account.
        """
        store: Store | None = None
        try:
            with translate_driver_errors():
                if (store := self._joined_store) is not None:
                    async with savepoint(store):
                        yield store
                    return
                async with self._leases.acquire(
                    self._writer,
                    max_duration=self._write_timeout,
                    begins=True,
                    write_lock=self._write_lock,
                ) as lease:
                    store = Store.of(lease.connection, self.tables)
                    lease.on_end = partial(self._after_transaction, store)
                    yield store
                    if store.transaction.has_session:
                        await store.transaction.flush()
                    if store.changed:
                        await self.notifications.notify(lease.connection, store.changed)
        except IntegrityError as error:
            at_commit = error.statement is None
            if at_commit and store and store.users.has_deleted and is_reference_violation(error):
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
                for on_change in self._on_change:
                    on_change(store.changed)
        if outcome is TransactionOutcome.COMMITTED:
            for event_ in store.events.added:
                self._on_commit(event_)
        elif outcome is TransactionOutcome.UNKNOWN:
            log_unknown_outcome(store.events.added)
        if store.outbox.added and outcome is not TransactionOutcome.ROLLED_BACK:
            self._on_queued()

    def borrow(self, connection: BorrowedConnection) -> Store:
        """Returns the tables in a transaction that the application ends. Then call `end_borrowed`.

        Each change of the tables is made inside `joining`, and followed by a notification.
        """
        store = Store.of(cast("AsyncConnection", connection), self.tables)
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
                if await lease.connection.scalar(sa.text(READ_ONLY_QUERY)):
                    raise StorageUnavailable

    async def identity(self) -> object:
        """Returns a value that equals that of another connection to the same database.

        Raises StorageUnavailable if the database does not answer.
        """
        if self.is_sqlite:
            return path_identity(self.file)
        async with self.read() as store:
            return tuple((await store.connection.execute(IDENTITY_QUERY)).one())

    async def limitations(self) -> Sequence[str]:
        """Returns what cannot be set on connections of an engine of the application, as clauses.

        Raises ConfigurationError if no transaction can work on them.
        """
        with translate_driver_errors():
            return [] if self._theirs is None else await self._theirs.limitations()

    async def close(self) -> None:
        """Closes all connections but those of the application. Later calls open new ones."""
        await self._leases.wait_released()
        if self.direct_reads is not None:
            await self.direct_reads.close()
        if self._theirs is None or isinstance(self.engine, SiblingEngine):
            await self.engine.dispose()
        if self.is_sqlite:
            # A lock is bound to the event loop that first waited for it; the next may be another.
            self._write_lock = asyncio.Lock()


def is_conflict(error: StorageUnavailable) -> bool:
    """Returns whether `error` reports a conflict, after which the transaction can be retried.

    A lost connection is not a conflict, because its transaction may have been committed.
    """
    cause = error.__cause__
    return getattr(getattr(cause, "orig", None), "sqlstate", None) in _CONFLICT_STATES


def retry_on_conflict(call: Callable[_P, Awaitable[_R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Decorates `call` so that it runs up to three times while its transaction ends in a conflict.

    Suitable only for calls whose effects are all in the transaction: other effects, such as a
    counted login attempt, would be repeated. Raises the error of the last attempt, and every error
    that is not a conflict.
    """

    @wraps(call)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for pause in _RETRY_PAUSES:
            try:
                return await call(*args, **kwargs)
            except StorageUnavailable as error:
                if not is_conflict(error):
                    raise
            _log.warning("retrying %s after a conflict in the database", call.__qualname__)
            # 50 to 150 % of the pause, so that two conflicting calls do not collide again.
            await asyncio.sleep(pause * (0.5 + randbelow(1000) / 1000))
        return await call(*args, **kwargs)

    return run
