"""Queries that count the rows of several tables, for an operator."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.monitoring.statistics import (
    HOUR,
    HOURS,
    REFUSED_SIGN_INS,
    SIGN_INS,
    AccountCounts,
    EventCount,
    EventCounts,
    QueueCounts,
    SessionCounts,
)
from authapi.domain.session import SessionKind
from authapi.storage.models import Tables

MAX_EVENTS: Final = 50_000
"""How many events are counted at most: an attacker can cause any number of them."""
_KINDS = frozenset(SessionKind)


class CountTable:
    """Counts rows. Each method is one statement."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables

    async def accounts(self) -> AccountCounts:
        """Counts the accounts."""
        users = self._tables.users
        statement = sa.select(
            sa.func.count(),
            sa.func.count().filter(users.c.is_active),
            sa.func.count(users.c.email_confirmed_at),
            sa.func.count().filter(users.c.is_superuser),
            sa.func.count(users.c.mfa_since),
        ).select_from(users)
        return AccountCounts(*(await self._connection.execute(statement)).one())

    async def sessions(self, *, now: datetime) -> SessionCounts:
        """Counts the logins and personal access tokens that have not expired at `now`."""
        sessions = self._tables.sessions
        # Only personal access tokens have a name.
        personal = sa.func.count(sessions.c.name)
        idle = sessions.c.idle_expires_at
        statement = (
            sa.select(sessions.c.kind, sa.func.count(), personal)
            .where(sessions.c.expires_at > now, idle.is_(None) | (idle > now))
            .group_by(sessions.c.kind)
        )
        logins, tokens = dict.fromkeys(SessionKind, 0), 0
        for kind, count, named in await self._connection.execute(statement):
            tokens += named
            if kind in _KINDS:  # others are of a later release
                logins[SessionKind(kind)] = count - named
        return SessionCounts(logins, tokens)

    async def events(self, *, now: datetime, since: UUID) -> EventCounts:
        """Counts the events by hour, from the id `since`, which is 24 hours before `now`."""
        events = self._tables.events
        # The newest ones by id, which is in the order of time.
        newest = (
            sa.select(events.c.at, events.c.type)
            .where(events.c.id >= since)
            .order_by(events.c.id.desc())
            .limit(MAX_EVENTS + 1)
            .subquery()
        )
        seconds = int(now.timestamp()) - sa.cast(sa.extract("epoch", newest.c.at), sa.BigInteger)
        hour = sa.cast(sa.func.floor(seconds / HOUR.total_seconds()), sa.Integer).label("hour")

        def of(types: Collection[str]) -> sa.ColumnElement[int]:
            return sa.func.count().filter(newest.c.type.in_(sorted(types)))

        statement = sa.select(hour, sa.func.count(), of(SIGN_INS), of(REFUSED_SIGN_INS))
        rows = (await self._connection.execute(statement.group_by(hour))).all()
        by_hour = [EventCount()] * HOURS
        for ago, *counts in rows:
            # The clock of another process may be ahead of, or behind, that of this one.
            place = HOURS - 1 - min(max(ago, 0), HOURS - 1)
            by_hour[place] += EventCount(*counts)
        total = sum(row[1] for row in rows)
        return EventCounts(by_hour, is_complete=total <= MAX_EVENTS)

    async def queues(self) -> Sequence[QueueCounts]:
        """Counts the entries of the outbox by kind, in the order of the kinds."""
        outbox = self._tables.outbox
        has_failed = outbox.c.failed_at.is_not(None)
        statement = sa.select(
            outbox.c.kind, has_failed, sa.func.count(), sa.func.min(outbox.c.created_at)
        ).group_by(outbox.c.kind, has_failed)
        found: dict[str, dict[bool, tuple[int, Any]]] = {}
        for kind, is_given_up, count, oldest in await self._connection.execute(statement):
            found.setdefault(kind, {})[bool(is_given_up)] = (count, oldest)
        return [_queue(kind, counts) for kind, counts in sorted(found.items())]

    async def oldest_event(self) -> datetime | None:
        """Returns the time of the oldest event."""
        events = self._tables.events
        statement = sa.select(events.c.at).order_by(events.c.id).limit(1)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def max_connections(self) -> int | None:
        """Returns how many connections the server gives to an ordinary role; None on SQLite."""
        if self._connection.dialect.name == "sqlite":
            return None
        query = (
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
        )
        return int((await self._connection.execute(sa.text(query))).scalar_one())

    async def server_version(self) -> str:
        """Returns the name and the version of the database."""
        is_sqlite = self._connection.dialect.name == "sqlite"
        query = "SELECT sqlite_version()" if is_sqlite else "SHOW server_version"
        version = str((await self._connection.execute(sa.text(query))).scalar_one())
        # Debian appends its own version.
        return f"{'SQLite' if is_sqlite else 'PostgreSQL'} {version.partition(' ')[0]}"


def _queue(kind: str, counts: Mapping[bool, tuple[int, datetime | None]]) -> QueueCounts:
    waiting, oldest = counts.get(False, (0, None))
    given_up, _ = counts.get(True, (0, None))
    return QueueCounts(kind, waiting, given_up, oldest)
