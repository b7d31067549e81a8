"""The engine, and the two ways to use it: `read()` for one statement, `transaction()` for changes.

A transaction is committed when its block ends, which is before the service returns and so before
any answer is sent: a commit that fails is an error, never a success told too early. See
`docs/decisions/0004-commit-before-the-answer.md`.
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
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from authapi.errors import StorageUnavailable
from authapi.identity import Event, current_client
from authapi.storage.changes import Changes, PostgresChanges, SQLiteChanges, identity_of
from authapi.storage.faults import Outcome, translated
from authapi.storage.leases import Leases
from authapi.storage.patience import connector
from authapi.storage.postgres.parameters import for_service
from authapi.storage.sqlite.connections import StoppableConnection
from authapi.storage.tables.events import EventTable
from authapi.storage.tables.one_time_secrets import OneTimeSecretTable
from authapi.storage.tables.outbox import OutboxTable
from authapi.storage.tables.refresh_families import RefreshFamilyTable
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.signing_keys import SigningKeyTable
from authapi.storage.tables.users import UserTable
from authapi.storage.urls import parse_url

_log = logging.getLogger(__name__)

_WRITE = "authapi_write"
_PING_BOUND = 2.0
_WAL_BOUND, _WAL_PAUSE = 5.0, 0.02
"""Seconds: how long to ask for a write-ahead log in a new SQLite file, and how often."""
_ONLY_READS = "SELECT current_setting('transaction_read_only')::boolean"
"""Also true on a standby (PostgreSQL, Hot Standby Parameter Reference)."""
CHANGES_NOTHING = "DELETE FROM users WHERE 0"
"""SQLite refuses this where the file is read only; there, `BEGIN IMMEDIATE` begins to read."""
_STALE_STATEMENTS = frozenset({"26000", "0A000"})
"""A prepared statement is unknown, or its result has another type since its table was altered."""
_FILE = "authapi_file"
"""Under this name the file is kept beside the connection that has opened it."""


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
    on_end: list[Callable[[bool], None]]
    """Each is called when the transaction is over, with whether it is committed."""

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
        self._file = Path(self._url.database or "")  # of SQLite
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
            longest = pool_timeout + 3 * timeout + 2  # that a transaction lasts, with its commit
            parameters = for_service(self._url, timeout=timeout, longest=longest)
            options["connect_args"] = {
                "connect_timeout": max(2, int(timeout)),
                "tcp_user_timeout": milliseconds,
                "async_creator_fn": connector(parameters),
            }
        self.engine: AsyncEngine = create_async_engine(self._url, **options)
        self._leases = Leases(self.engine, patience=timeout + 1)
        self._read_bound = pool_timeout + timeout + 1
        self._write_bound = pool_timeout + 2 * timeout + 1
        self.on_commit: Callable[[Event], None] = _ignore
        """Told of each event once the transaction that holds it is known to be committed."""
        self.on_change: Callable[[Collection[UUID]], None] = _ignore
        """Told which users changed when the transaction that changed them is over."""
        self.on_queued: Callable[[], None] = _nothing
        """Told when a transaction that added to the outbox is committed, or may be."""
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
        self._turn = asyncio.Lock() if self._is_sqlite else None
        if self._is_sqlite:
            event.listen(self.engine.sync_engine, "do_connect", _require_file)
            event.listen(self.engine.sync_engine, "connect", self._note_file)
            event.listen(self.engine.sync_engine, "checkout", self._same_file)
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine.sync_engine, "handle_error", _doubt)

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
        with translated():
            async with self._leases.lend(self._reader, bound=self._read_bound) as lease:
                yield _store(lease.connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        """The tables inside one transaction, committed at the end of the block or not at all."""
        with translated():
            async with self._leases.lend(
                self._writer, bound=self._write_bound, begins=True, turn=self._turn
            ) as lease:
                store = _store(lease.connection)
                lease.on_end = partial(self._ended, store)
                yield store
                if store.changed:
                    await self.changes.announce(lease.connection, store.changed)

    def _ended(self, store: Store, outcome: Outcome) -> None:
        # What may have been committed counts as committed: mail is limited rather than unlimited.
        for ended in store.on_end:
            ended(outcome is not Outcome.UNDONE)
        try:
            if store.changed and outcome is Outcome.COMMITTED:
                self.changes.committed()
        finally:
            # Also after a failure: a commit whose answer was lost may have happened.
            if store.changed:
                self.on_change(store.changed)
        if outcome is Outcome.COMMITTED:
            for added in store.events.added:
                self.on_commit(added)
        elif outcome is Outcome.UNKNOWN:
            _tell_unknown(store.events.added)
        if store.outbox.added and outcome is not Outcome.UNDONE:
            self.on_queued()

    async def ping(self) -> None:
        """Return if the database takes changes, within two seconds: probes do not wait longer.

        On SQLite, this begins a transaction that changes no row; PostgreSQL tells.
        """
        with translated():
            if self._is_sqlite:
                async with self._leases.lend(
                    self._writer, bound=_PING_BOUND, begins=True, turn=self._turn
                ) as lease:
                    await lease.connection.exec_driver_sql(CHANGES_NOTHING)
                    return
            async with self._leases.lend(self._reader, bound=_PING_BOUND) as lease:
                if await lease.connection.scalar(sa.text(_ONLY_READS)):
                    raise StorageUnavailable

    def _note_file(self, _: object, record: ConnectionPoolEntry) -> None:
        record.info[_FILE] = identity_of(self._file)

    def _same_file(self, _: object, record: ConnectionPoolEntry, __: object) -> None:
        # A connection stays with the file that it has opened, also when that is removed or another
        # one is put in its place: what is written there is lost. The pool connects anew.
        if record.info[_FILE] != identity_of(self._file):
            raise DisconnectionError

    async def close(self) -> None:
        """Close every connection. What is asked after that opens new ones."""
        await self._leases.settle()
        await self.engine.dispose()
        if self._is_sqlite:
            # A lock belongs to the event loop that first waited for it; the next may be another.
            self._turn = asyncio.Lock()


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
        on_end=[],
    )


def _tell_unknown(events: Sequence[Event]) -> None:
    # The events are in the table exactly if the changes are: their ids answer the question.
    _log.error(
        "the answer to COMMIT is lost: the changes may have been made or not",
        extra={
            "request_id": current_client().request_id,
            "events": [f"{event.type.value} {event.id}" for event in events] or None,
        },
    )


def _turn_of(name: str) -> sa.ColumnElement[int]:
    return sa.func.hashtextextended(f"authapi {name}", 0)


def _ignore(_: object) -> None:
    return None


def _nothing() -> None:
    return None


def _doubt(context: ExceptionContext) -> None:
    # A session that does not know a statement which was prepared on it is another session: a
    # pooler came in between. All connections of the pool are made anew, and looked at then.
    if getattr(context.original_exception, "sqlstate", "") in _STALE_STATEMENTS:
        context.is_disconnect = True


def _require_file(_: object, __: object, arguments: Sequence[str], ___: object) -> None:
    # SQLite would make an empty one. It is made by the migrations, with its mode and tables.
    if identity_of(Path(arguments[0])) is None:
        raise sqlite3.OperationalError("the database file is not there")


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
