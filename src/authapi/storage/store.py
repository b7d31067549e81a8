"""The tables inside one transaction, which services open with `Database`, or join.

Inside `joining(database, store)`, a service that opens a transaction gets a savepoint of the
transaction of `store`. The block ends with the call that it is around, so no other code joins by
accident.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.storage.application.transaction import Transaction
from authapi.storage.models import Tables
from authapi.storage.tables.callers import CallerTable
from authapi.storage.tables.email_tokens import EmailTokenTable
from authapi.storage.tables.events import EventTable
from authapi.storage.tables.factors.login_tickets import LoginTicketTable
from authapi.storage.tables.factors.passkeys import PasskeyTable
from authapi.storage.tables.factors.recovery_codes import RecoveryCodeTable
from authapi.storage.tables.factors.totp_factors import TOTPFactorTable
from authapi.storage.tables.factors.used_challenges import UsedChallengeTable
from authapi.storage.tables.monitoring.counts import CountTable
from authapi.storage.tables.monitoring.live_sessions import LiveSessionTable
from authapi.storage.tables.monitoring.sizes import SizeTable
from authapi.storage.tables.outbox import OutboxTable
from authapi.storage.tables.refresh_families import RefreshFamilyTable
from authapi.storage.tables.restores.ends import EndTable
from authapi.storage.tables.restores.history import HistoryTable
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.signing_keys import SigningKeyTable
from authapi.storage.tables.usernames import UsernameTable
from authapi.storage.tables.users import UserTable


@dataclass(frozen=True, slots=True)
class Store:
    """The tables inside one transaction."""

    users: UserTable
    usernames: UsernameTable
    sessions: SessionTable
    callers: CallerTable
    events: EventTable
    refresh_families: RefreshFamilyTable
    signing_keys: SigningKeyTable
    email_tokens: EmailTokenTable
    outbox: OutboxTable
    login_tickets: LoginTicketTable
    totp_factors: TOTPFactorTable
    recovery_codes: RecoveryCodeTable
    passkeys: PasskeyTable
    used_challenges: UsedChallengeTable
    counts: CountTable
    sizes: SizeTable
    live_sessions: LiveSessionTable
    ends: EndTable
    history: HistoryTable
    tables: Tables
    changed: set[UUID]
    """Users that this transaction changed, or whose sessions it changed. The tables add to it."""
    connection: AsyncConnection
    transaction: Transaction
    """For statements of the application, in the same transaction."""
    on_end: list[Callable[[bool], None]]
    """Called at the end of the transaction: with False if it was rolled back, True otherwise."""

    @classmethod
    def of(cls, connection: AsyncConnection, tables: Tables) -> "Store":
        """Returns the tables on `connection`."""
        changed: set[UUID] = set()
        return cls(
            users=UserTable(connection, tables, changed),
            usernames=UsernameTable(connection, tables),
            sessions=SessionTable(connection, tables, changed),
            callers=CallerTable(connection, tables),
            events=EventTable(connection, tables),
            refresh_families=RefreshFamilyTable(connection, tables),
            signing_keys=SigningKeyTable(connection, tables),
            email_tokens=EmailTokenTable(connection, tables),
            outbox=OutboxTable(connection, tables),
            login_tickets=LoginTicketTable(connection, tables),
            totp_factors=TOTPFactorTable(connection, tables),
            recovery_codes=RecoveryCodeTable(connection, tables),
            passkeys=PasskeyTable(connection, tables),
            used_challenges=UsedChallengeTable(connection, tables),
            counts=CountTable(connection, tables),
            sizes=SizeTable(connection, tables),
            live_sessions=LiveSessionTable(connection, tables),
            ends=EndTable(connection, tables, changed),
            history=HistoryTable(connection, tables),
            tables=tables,
            changed=changed,
            connection=connection,
            transaction=Transaction(connection, changed),
            on_end=[],
        )

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

    async def plan_each_statement(self) -> None:
        """Makes the server plan each execution of a statement in this transaction.

        By default, it keeps a plan, which may read a whole table that was empty at that time and
        grows since. Does nothing on SQLite, which keeps none.
        """
        if self.connection.dialect.name != "sqlite":
            await self.connection.execute(sa.text("SET LOCAL plan_cache_mode = force_custom_plan"))

    async def server_time(self) -> datetime | None:
        """Returns the time of the database server; None on SQLite, which has none of its own."""
        if self.connection.dialect.name == "sqlite":
            return None
        found: datetime = (
            await self.connection.execute(sa.select(sa.func.clock_timestamp()))
        ).scalar_one()
        return found.astimezone(UTC)

    def _lock_key(self, name: str) -> sa.ColumnElement[int]:
        return sa.func.hashtextextended(f"{self.tables.names.lock} {name}", 0)


JOINED: ContextVar[tuple[object, Store] | None] = ContextVar("authapi_joined", default=None)
"""A database, and the store that its services join now."""


@contextmanager
def joining(database: object, store: Store) -> Iterator[None]:
    """Makes the services of `database` use `store` inside the block."""
    token = JOINED.set((database, store))
    try:
        yield
    finally:
        JOINED.reset(token)


@asynccontextmanager
async def savepoint(store: Store) -> AsyncIterator[Store]:
    """Gives access to the tables inside a savepoint of the transaction of `store`.

    If the block raises, its changes, events and outbox entries are undone, and the transaction goes
    on.
    """
    events, queued, callbacks = len(store.events.added), store.outbox.added, len(store.on_end)
    try:
        async with store.connection.begin_nested():
            yield store
    except BaseException:
        del store.events.added[events:]
        store.outbox.added = queued
        undone = store.on_end[callbacks:]
        del store.on_end[callbacks:]
        for callback in undone:
            callback(False)
        raise
