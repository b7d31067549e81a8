"""Queries on `events`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.client import UNKNOWN_NETWORK, Client, parse_ip
from authapi.domain.events import BEGINNINGS, Event, EventFilter, EventType
from authapi.storage.models import Tables
from authapi.storage.tables.statements import insert_many

_COLUMNS = (
    "id",
    "at",
    "type",
    "user_id",
    "session_id",
    "strategy",
    "request_id",
    "ip",
    "user_agent",
    "detail",
    "actor_id",
)
_CONDITIONAL = ("id", "at", "type", "user_id", "ip", "actor_id")
"""The columns of the conditions of a search, and the time."""


class EventTable:
    """The events, inside one transaction.

    Rows are inserted and read. They change only when their account is deleted.
    """

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._events, self._users = tables.events, tables.users
        self.added: list[Event] = []
        """The events that this transaction has added. They are logged after the commit."""

    async def add(self, event: Event) -> None:
        """Inserts an event."""
        await self._connection.execute(sa.insert(self._events).values(_row(event)))
        self.added.append(event)

    async def add_all(self, several: Sequence[Event]) -> None:
        """Inserts many events in few statements."""
        if several:
            rows = [_row(event) for event in several]
            insert, parameters = insert_many(self._connection.dialect, self._events, rows)
            await self._connection.execute(insert, parameters)
            self.added.extend(several)

    async def add_for_email(self, event: Event, *, email: str) -> None:
        """Inserts an event of the account with this canonical `email`, or of no account.

        One statement looks up the account and inserts the event, so that the time does not depend
        on whether the account exists.
        """
        await self._add_for_owner(self._users.c.email == email, event)

    async def add_without_lock(self, event: Event) -> None:
        """Inserts an event whose account this transaction has not locked.

        If the account was deleted in the meantime, the event is stored without a user id, because
        the personal data of the account was already removed and must not be stored again. An event
        without an account takes the same statement.
        """
        await self._add_for_owner(self._users.c.id == event.user_id, event)

    async def _add_for_owner(self, owner: sa.ColumnElement[bool], event: Event) -> None:
        # The account is not locked, because a lock would take more time if the account exists.
        owner_id = sa.select(self._users.c.id).where(owner).scalar_subquery()
        statement = sa.insert(self._events).values(_row(event) | {"user_id": owner_id})
        rows = await self._connection.execute(statement.returning(self._events.c.user_id))
        self.added.append(replace(event, user_id=rows.scalar_one()))

    async def prune(self, *, before: UUID, limit: int) -> int:
        """Deletes up to `limit` events with ids lower than `before`. Returns their number.

        Skips locked rows: a batch over many accounts must not wait for the transaction of one.
        """
        batch = sa.select(self._events.c.id).where(self._events.c.id < before).limit(limit)
        rows = await self._connection.execute(batch.with_for_update(skip_locked=True))
        ids = rows.scalars().all()
        # Also for an empty batch, so that a missing DELETE privilege shows before there are old
        # events.
        await self._connection.execute(sa.delete(self._events).where(self._events.c.id.in_(ids)))
        return len(ids)

    async def count_without_address(self, *, since: UUID) -> int:
        """Returns the number of events since the id `since` whose request had no valid IP address.

        Events of commands do not count, because they have no request. Neither do deletions of
        accounts, because an owner's deletion is recorded without the address.
        """
        statement = sa.select(sa.func.count()).where(
            self._events.c.id >= since,
            self._events.c.ip.is_(None),
            self._events.c.request_id.is_not(None),
            self._events.c.type != EventType.ACCOUNT_DELETED.value,
        )
        return int((await self._connection.execute(statement)).scalar_one())

    async def anonymise(self, user_id: UUID) -> None:
        """Removes the personal data from the events of a user, and keeps the events."""
        await self._connection.execute(
            sa.update(self._events)
            .where(self._events.c.user_id == user_id)
            .values(ip=None, network=UNKNOWN_NETWORK, user_agent=None, request_id=None, detail={})
        )

    async def erase(self, user_id: UUID) -> None:
        """Deletes the events of a user."""
        await self._connection.execute(
            sa.delete(self._events).where(self._events.c.user_id == user_id)
        )

    async def has_login(self, email: str, *, network: str, since: UUID) -> bool:
        """Returns whether the account with this canonical `email` has a login from `network`.

        Considers logins since the id `since`. An address without an account takes the same
        statement and the same index lookup.
        """
        owner = sa.select(self._users.c.id).where(self._users.c.email == email).scalar_subquery()
        statement = (
            sa.select(self._events.c.id)
            .where(
                self._events.c.user_id == owner,
                self._events.c.type == EventType.LOGIN,
                self._events.c.network == network,
                self._events.c.id >= since,
            )
            .limit(1)
        )
        return (await self._connection.execute(statement)).first() is not None

    async def first_since(self, user_id: UUID, kind: EventType, since: UUID) -> datetime | None:
        """Returns when the first event of this type since the id `since` was recorded, or None."""
        statement = sa.select(sa.func.min(self._events.c.at)).where(
            self._events.c.user_id == user_id,
            self._events.c.type == kind.value,
            self._events.c.id >= since,
        )
        found: datetime | None = (await self._connection.execute(statement)).scalar_one()
        return found

    async def last_of(self, user_id: UUID, kinds: Collection[EventType]) -> datetime | None:
        """Returns when the newest event of these types was recorded for a user, or None."""
        statement = sa.select(sa.func.max(self._events.c.at)).where(
            self._events.c.user_id == user_id,
            self._events.c.type.in_([kind.value for kind in kinds]),
        )
        found: datetime | None = (await self._connection.execute(statement)).scalar_one()
        return found

    async def ends_of_all(self, *, since: UUID) -> Sequence[datetime]:
        """Returns the times before which `sessions end --all` has ended everything.

        Considers the runs since the id `since`. One statement, by an index.
        """
        statement = sa.select(self._events.c.at, self._events.c.detail).where(
            self._events.c.user_id.is_(None),
            self._events.c.type == EventType.ALL_SESSIONS_ENDED,
            self._events.c.id >= since,
        )
        rows = (await self._connection.execute(statement)).all()
        ends = [(at, detail.get("before")) for at, detail in rows]
        return [at if text is None else min(at, datetime.fromisoformat(text)) for at, text in ends]

    async def find_user_agents(
        self, user_id: UUID, *, network: str, since: UUID, limit: int
    ) -> Collection[str | None]:
        """Returns the user agents of the newest logins of a user from `network`, each once.

        Considers at most `limit` logins, since the id `since`. One statement, by an index.
        """
        newest = (
            sa.select(self._events.c.user_agent)
            .where(
                self._events.c.user_id == user_id,
                self._events.c.type == EventType.LOGIN,
                self._events.c.network == network,
                self._events.c.id >= since,
            )
            .order_by(self._events.c.id.desc())
            .limit(limit)
            .subquery()
        )
        statement = sa.select(newest.c.user_agent).distinct()
        return (await self._connection.execute(statement)).scalars().all()

    async def find_new_devices(self, user_id: UUID, *, since: UUID) -> tuple[bool, int]:
        """Returns whether a user never logged in, and the number of `new_device` events.

        A user never logged in if the account has begun within the events that are kept, and they
        contain no login. The events since the id `since` are counted. One statement, by an index.
        """

        def exists(*types: EventType) -> sa.Exists:
            of_types = self._events.c.type.in_(sorted(types))
            return sa.exists().where(self._events.c.user_id == user_id, of_types)

        count = (
            sa.select(sa.func.count())
            .where(
                self._events.c.user_id == user_id,
                self._events.c.type == EventType.NEW_DEVICE,
                self._events.c.id >= since,
            )
            .scalar_subquery()
        )
        is_first = exists(*BEGINNINGS) & ~exists(EventType.LOGIN)
        never, several = (await self._connection.execute(sa.select(is_first, count))).one()
        return bool(never), int(several)

    async def page(
        self,
        user_id: UUID,
        *,
        before: UUID | None,
        limit: int,
        types: frozenset[EventType] | None = None,
    ) -> Sequence[Event]:
        """Returns up to `limit` events of a user with ids lower than `before`, the newest first."""
        filters = EventFilter(user_id=user_id, types=types)
        return await self.search(filters, before=before, limit=limit)

    async def search(
        self, filters: EventFilter, *, before: UUID | None, limit: int
    ) -> Sequence[Event]:
        """Returns up to `limit` matching events with ids lower than `before`, the newest first."""
        statement = sa.select(*(self._events.c[name] for name in _COLUMNS)).where(
            *_conditions(self._events, filters)
        )
        if before is not None:
            statement = statement.where(self._events.c.id < before)
        statement = statement.order_by(self._events.c.id.desc()).limit(limit)
        return [_event(row) for row in await self._connection.execute(statement)]

    async def search_newest(
        self, filters: EventFilter, *, before: UUID | None, limit: int, examined: int
    ) -> Sequence[Event]:
        """Returns as `search`, but looks only at the newest `examined` events.

        These are the events of the account and of the time in `filters`, which indexes find.
        """
        newest = self._newest(filters, before, examined, *_COLUMNS)
        statement = sa.select(*(newest.c[name] for name in _COLUMNS)).where(
            *_conditions(newest, filters)
        )
        statement = statement.order_by(newest.c.id.desc()).limit(limit)
        return [_event(row) for row in await self._connection.execute(statement)]

    async def find_nth(
        self, filters: EventFilter, *, before: UUID | None, number: int
    ) -> tuple[UUID, datetime] | None:
        """Returns id and time of the last event that `search_newest` looks at.

        None if there are no more events than it looks at.
        """
        statement = (
            sa.select(self._events.c.id, self._events.c.at)
            .where(*_conditions(self._events, _indexed(filters, before)))
            .order_by(self._events.c.id.desc())
            .limit(2)
            .offset(number - 1)
        )
        rows = (await self._connection.execute(statement)).all()
        return (rows[0].id, rows[0].at) if len(rows) > 1 else None

    async def count_by_day(self, filters: EventFilter, *, examined: int) -> Mapping[date, int]:
        """Returns the numbers of matching events by day (UTC), among the newest `examined`."""
        newest = self._newest(filters, None, examined, *_CONDITIONAL)
        # The time zone of connections is UTC; SQLite stores times as text in UTC.
        day = sa.func.date(newest.c.at, type_=sa.Date)
        statement = sa.select(day, sa.func.count()).where(*_conditions(newest, filters))
        rows = await self._connection.execute(statement.group_by(day))
        return {row[0]: row[1] for row in rows}

    def _newest(
        self, filters: EventFilter, before: UUID | None, limit: int, *names: str
    ) -> sa.Subquery:
        return (
            sa.select(*(self._events.c[name] for name in names))
            .where(*_conditions(self._events, _indexed(filters, before)))
            .order_by(self._events.c.id.desc())
            .limit(limit)
            .subquery()
        )


def _indexed(filters: EventFilter, before: UUID | None) -> EventFilter:
    """Returns the conditions that an index finds: the account and the time."""
    ends = [end for end in (filters.until, before) if end is not None]
    return EventFilter(
        user_id=filters.user_id, since=filters.since, until=min(ends) if ends else None
    )


def _notations(ip: str) -> Sequence[str]:
    """Returns the notations of `ip` in rows: older releases also stored IPv4-mapped IPv6."""
    address = parse_ip(ip)
    if not isinstance(address, IPv4Address):
        return [] if address is None else [str(address)]
    high, low = divmod(int(address), 1 << 16)
    return [str(address), f"::ffff:{address}", f"::ffff:{high:x}:{low:x}"]


def _event(row: Sequence[Any]) -> Event:
    key, at, kind, owner, session_id, strategy, request_id, ip, agent, detail, actor_id = row
    return Event(
        id=key,
        at=at,
        type=EventType(kind),
        user_id=owner,
        session_id=session_id,
        strategy=strategy,
        client=Client(ip=ip, user_agent=agent, request_id=request_id),
        detail=detail,
        actor_id=actor_id,
    )


def _row(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": event.at,
        "type": event.type,
        "outcome": event.outcome,
        "user_id": event.user_id,
        "session_id": event.session_id,
        "strategy": event.strategy,
        "request_id": event.client.request_id,
        "ip": event.client.ip,
        "network": event.client.network,
        "user_agent": event.client.user_agent,
        "detail": dict(event.detail),
        "actor_id": event.actor_id,
    }


def _conditions(events: sa.FromClause, filters: EventFilter) -> Sequence[sa.ColumnElement[bool]]:
    """Returns the conditions as SQL with bound parameters."""
    equal = {name: getattr(filters, name) for name in ("user_id", "actor_id", "type")}
    conditions: list[sa.ColumnElement[bool]] = [
        events.c[name] == value for name, value in equal.items() if value is not None
    ]
    if filters.types is not None:
        conditions.append(events.c.type.in_(sorted(filters.types)))
    if filters.ip is not None:
        conditions.append(events.c.ip.in_(_notations(filters.ip)))
    if filters.since is not None:
        conditions.append(events.c.id >= filters.since)
    if filters.until is not None:
        conditions.append(events.c.id < filters.until)
    return conditions
