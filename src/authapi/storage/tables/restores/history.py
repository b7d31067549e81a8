"""Queries that tell how far the events of a database reach."""

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.events import EventType
from authapi.storage.models import Tables


class HistoryTable:
    """The ids of events, inside one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._events, self._users = tables.events, tables.users

    async def has(self, event_id: UUID) -> bool:
        """Whether there is an event with this id."""
        statement = sa.select(sa.exists().where(self._events.c.id == event_id))
        return bool(await self._connection.scalar(statement))

    async def newest(self) -> UUID | None:
        """Returns the highest id of an event, or None without events."""
        statement = sa.select(self._events.c.id).order_by(self._events.c.id.desc()).limit(1)
        found: UUID | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return found

    async def first_account(self) -> UUID | None:
        """Returns the lowest id of an account, or None without accounts."""
        statement = sa.select(self._users.c.id).order_by(self._users.c.id).limit(1)
        found: UUID | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return found

    async def has_later(self, kinds: Collection[EventType], after: UUID | None) -> bool:
        """Whether an event of one of these types has an id greater than `after`."""
        later: list[sa.ColumnElement[bool]] = [self._events.c.type.in_(sorted(kinds))]
        if after is not None:
            later.append(self._events.c.id > after)
        statement = sa.select(self._events.c.id).where(*later).limit(1)
        return (await self._connection.execute(statement)).first() is not None
