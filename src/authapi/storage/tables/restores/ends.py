"""Statements that end the sessions and one-time secrets of many accounts."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.storage.models import Tables


class EndTable:
    """Ends what accounts hold, inside one transaction.

    `before` selects what was created before this time, None everything. With `keep_tokens`,
    personal access tokens stay. Accounts whose sessions end are added to the changed users of the
    transaction.
    """

    def __init__(self, connection: AsyncConnection, tables: Tables, changed: set[UUID]) -> None:
        self._connection = connection
        self._tables = tables
        self._changed = changed

    async def count(self, *, before: datetime | None, keep_tokens: bool) -> tuple[int, int]:
        """Returns how many logins and how many personal access tokens would end."""
        sessions = self._tables.sessions
        name = sessions.c.name
        statement = (
            sa.select(sa.func.count() - sa.func.count(name), sa.func.count(name))
            .select_from(sessions)
            .where(*self._ending(before, keep_tokens))
        )
        logins, tokens = (await self._connection.execute(statement)).one()
        return logins, tokens

    async def lock_owners(
        self, *, after: UUID | None, before: datetime | None, keep_tokens: bool, limit: int
    ) -> Sequence[UUID]:
        """Locks up to `limit` accounts that hold something that ends; returns their ids in order.

        Only accounts with ids greater than `after`. Accounts are locked in the order of their ids,
        as by every transaction.
        """
        users, sessions = self._tables.users, self._tables.sessions
        # Each part follows the index of its user_id for `limit` accounts. With one EXISTS for each
        # table, PostgreSQL reads all sessions for every batch.
        parts = [self._first_owners(sessions, after, self._ending(before, keep_tokens), limit)]
        for table in (self._tables.email_tokens, self._tables.login_tickets):
            old = () if before is None else (table.c.created_at < before,)
            parts.append(self._first_owners(table, after, old, limit))
        owners = sa.union(*parts).subquery()
        found = sa.select(owners.c.user_id).order_by(owners.c.user_id).limit(limit)
        ids = (await self._connection.execute(found)).scalars().all()
        if ids:
            lock = sa.select(users.c.id).where(users.c.id.in_(ids)).order_by(users.c.id)
            await self._connection.execute(lock.with_for_update(key_share=True))
        return ids  # also of accounts that were deleted meanwhile: they hold nothing

    @staticmethod
    def _first_owners(
        table: sa.Table,
        after: UUID | None,
        conditions: Sequence[sa.ColumnElement[bool]],
        limit: int,
    ) -> sa.Select[tuple[UUID]]:
        owner = table.c.user_id
        later = owner.is_not(None) if after is None else owner > after
        first = sa.select(owner).where(later, *conditions).distinct().order_by(owner).limit(limit)
        return sa.select(first.subquery().c.user_id)  # SQLite: no LIMIT in a part of a UNION

    async def end(
        self, users: Collection[UUID], *, before: datetime | None, keep_tokens: bool
    ) -> tuple[int, int]:
        """Ends the sessions, with their refresh tokens, and the one-time secrets of these accounts.

        The accounts must be locked. Returns the numbers of sessions and of one-time secrets.
        """
        sessions = self._tables.sessions
        statement = (
            sa.delete(sessions)
            .where(sessions.c.user_id.in_(users), *self._ending(before, keep_tokens))
            .returning(sessions.c.user_id)
        )
        owners = (await self._connection.execute(statement)).scalars().all()
        self._changed.update(owners)
        secrets = 0
        for table in (self._tables.email_tokens, self._tables.login_tickets):
            old = () if before is None else (table.c.created_at < before,)
            result = await self._connection.execute(
                sa.delete(table).where(table.c.user_id.in_(users), *old)
            )
            secrets += result.rowcount
        return len(owners), secrets

    async def discard_entries(self, *, before: datetime, limit: int) -> int:
        """Deletes up to `limit` entries of the outbox that are older; returns their number."""
        outbox = self._tables.outbox
        old = sa.select(outbox.c.id).where(outbox.c.created_at < before)
        rows = await self._connection.execute(
            old.order_by(outbox.c.id).limit(limit).with_for_update()
        )
        if ids := rows.scalars().all():
            await self._connection.execute(sa.delete(outbox).where(outbox.c.id.in_(ids)))
        return len(ids)

    def _ending(
        self, before: datetime | None, keep_tokens: bool
    ) -> Sequence[sa.ColumnElement[bool]]:
        sessions = self._tables.sessions
        conditions: list[sa.ColumnElement[bool]] = []
        if before is not None:
            conditions.append(sessions.c.created_at < before)
        if keep_tokens:
            conditions.append(sessions.c.name.is_(None))  # only personal access tokens have a name
        return conditions
