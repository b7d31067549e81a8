"""The sessions of all users, for an operator."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.storage.models import Tables
from authapi.storage.tables.session_statements import session_statements
from authapi.storage.tables.sessions import session_and_user


class LiveSessionTable:
    """Lists sessions without regard to their users, inside one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._sessions = tables.sessions
        self._with_user = session_statements(tables).with_user

    async def page(
        self, *, personal: bool | None, now: datetime, before: UUID | None, limit: int
    ) -> Sequence[tuple[Session, User]]:
        """Returns up to `limit` sessions older than `before` that are not expired at `now`.

        The newest comes first. With `personal`, these are personal access tokens; with False,
        logins; with None, both.
        """
        columns = self._sessions.c
        idle, name = columns.idle_expires_at, columns.name
        statement = self._with_user.where(columns.expires_at > now, idle.is_(None) | (idle > now))
        if personal is not None:
            # Only personal access tokens have a name.
            statement = statement.where(name.is_not(None) if personal else name.is_(None))
        if before is not None:
            statement = statement.where(columns.id < sa.literal(before, columns.id.type))
        statement = statement.order_by(columns.id.desc()).limit(limit)
        return [session_and_user(row) for row in await self._connection.execute(statement)]
