"""Queries on `events`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.identity import NO_NETWORK, Client, Event, EventType, read_address
from authapi.storage.models import events, users

_COLUMNS = (
    events.c.id,
    events.c.at,
    events.c.type,
    events.c.user_id,
    events.c.session_id,
    events.c.strategy,
    events.c.request_id,
    events.c.ip,
    events.c.user_agent,
    events.c.detail,
    events.c.actor_id,
)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are asked for; None stands for any."""

    user_id: UUID | None = None
    actor_id: UUID | None = None
    type: EventType | None = None
    ip: str | None = None
    """In any spelling; what is no address finds nothing."""
    since: UUID | None = None
    """The least id."""
    until: UUID | None = None
    """The id that all are less than."""

    def conditions(self) -> Sequence[sa.ColumnElement[bool]]:
        """The same, as SQL: values are bound, never written into it."""
        equal = {name: getattr(self, name) for name in ("user_id", "actor_id", "type")}
        found: list[sa.ColumnElement[bool]] = [
            events.c[name] == value for name, value in equal.items() if value is not None
        ]
        if self.ip is not None:
            found.append(events.c.ip.in_(_spellings(self.ip)))
        if self.since is not None:
            found.append(events.c.id >= self.since)
        if self.until is not None:
            found.append(events.c.id < self.until)
        return found


class EventTable:
    """What happened, inside one transaction.

    Rows are added and read, and not changed as long as the account is there that they tell of.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.added: list[Event] = []
        """What this transaction adds; told to the log once it is committed."""

    async def add(self, event: Event) -> None:
        """Write down an event."""
        await self._connection.execute(sa.insert(events).values(_row(event)))
        self.added.append(event)

    async def add_all(self, several: Sequence[Event]) -> None:
        """Write down many events in few statements."""
        if several:
            await self._connection.execute(sa.insert(events), [_row(event) for event in several])
            self.added.extend(several)

    async def add_for(self, event: Event, *, email: str) -> None:
        """Write down an event of the account with this canonical `email`, or of nobody's.

        One statement finds the account and writes, so that one that there is and one that there is
        not cost the same work.
        """
        await self._add_of(users.c.email == email, event)

    async def add_alone(self, event: Event) -> None:
        """Write down an event whose account this transaction does not hold.

        If that was deleted meanwhile, the event names no account: what tells of its owner was
        taken out then, and must not come in again. The work is the same for an event of no account.
        """
        await self._add_of(users.c.id == event.user_id, event)

    async def _add_of(self, owner: sa.ColumnElement[bool], event: Event) -> None:
        # The account is not locked: that would take longer for one that there is.
        found = sa.select(users.c.id).where(owner).scalar_subquery()
        statement = sa.insert(events).values(_row(event) | {"user_id": found})
        rows = await self._connection.execute(statement.returning(events.c.user_id))
        self.added.append(replace(event, user_id=rows.scalar_one()))

    async def prune(self, *, before: UUID, limit: int) -> int:
        """Remove up to `limit` events with lesser ids than `before`; how many they were.

        Passes over rows that a change of their account holds, as a batch over many accounts must.
        """
        batch = sa.select(events.c.id).where(events.c.id < before).limit(limit)
        rows = await self._connection.execute(batch.with_for_update(skip_locked=True))
        ids = rows.scalars().all()
        # Also without any: a role that may not remove events is to notice before there are some.
        await self._connection.execute(sa.delete(events).where(events.c.id.in_(ids)))
        return len(ids)

    async def without_address(self, *, since: UUID) -> int:
        """How many events with ids from `since` on come from a request without a readable address.

        What happened at the command line has no request.
        """
        statement = sa.select(sa.func.count()).where(
            events.c.id >= since, events.c.ip.is_(None), events.c.request_id.is_not(None)
        )
        return int((await self._connection.execute(statement)).scalar_one())

    async def anonymise(self, user_id: UUID) -> None:
        """Take out of the events of a user what tells of a person; what happened stays."""
        await self._connection.execute(
            sa.update(events)
            .where(events.c.user_id == user_id)
            .values(ip=None, network=NO_NETWORK, user_agent=None, request_id=None, detail={})
        )

    async def erase(self, user_id: UUID) -> None:
        """Remove the events of a user."""
        await self._connection.execute(sa.delete(events).where(events.c.user_id == user_id))

    async def has_login(self, email: str, *, network: str, since: UUID) -> bool:
        """Whether the account with this canonical `email` was logged in to from `network`.

        Counts logins with ids from `since` on. An address without account takes the same statement,
        and the same look into the same index.
        """
        owner = sa.select(users.c.id).where(users.c.email == email).scalar_subquery()
        statement = (
            sa.select(events.c.id)
            .where(
                events.c.user_id == owner,
                events.c.type == EventType.LOGIN,
                events.c.network == network,
                events.c.id >= since,
            )
            .limit(1)
        )
        return (await self._connection.execute(statement)).first() is not None

    async def page(self, user_id: UUID, *, before: UUID | None, limit: int) -> Sequence[Event]:
        """Up to `limit` events of a user, the newest first, beginning behind the id `before`."""
        return await self.search(EventFilter(user_id=user_id), before=before, limit=limit)

    async def search(
        self, wanted: EventFilter, *, before: UUID | None, limit: int
    ) -> Sequence[Event]:
        """Up to `limit` events of anybody, the newest first, beginning behind the id `before`."""
        statement = sa.select(*_COLUMNS).where(*wanted.conditions())
        if before is not None:
            statement = statement.where(events.c.id < before)
        statement = statement.order_by(events.c.id.desc()).limit(limit)
        return [_event(row) for row in await self._connection.execute(statement)]


def _spellings(ip: str) -> Sequence[str]:
    """How rows may spell the address: rows of older releases hold IPv4-mapped IPv6 as well."""
    address = read_address(ip)
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
