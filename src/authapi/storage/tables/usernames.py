"""Queries on `usernames`: the user names that are not free, in their canonical form.

The primary key decides who has a name. Every change of a name goes through this table in the
transaction of the account, so that a name can neither be given twice, nor be taken in the moment of
its release.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.errors import UsernameTaken
from authapi.storage.models import Tables
from authapi.storage.tables.statements import any_of, insert_many


class UsernameTable:
    """The user names, inside one transaction. All names are in their canonical form."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._table = tables.usernames

    async def claim(
        self, names: Mapping[str, UUID], *, now: datetime, until: datetime | None = None
    ) -> None:
        """Gives each name to the account with this id, which need not exist yet.

        With `until`, the name is only reserved for the account, until that time.

        A name is free if no account has it, and no other account has released it recently. Claims
        in the order of the names, because a claim waits for a concurrent claim of the same name.
        Raises UsernameTaken if one of the names is not free.
        """
        if not names:
            return
        rows = [
            {"username": name, "user_id": user_id, "expires_at": until}
            for name, user_id in sorted(names.items())
        ]
        insert, parameters = insert_many(self._connection.dialect, self._table, rows)
        is_free = sa.or_(
            self._table.c.user_id == insert.excluded.user_id, self._table.c.expires_at <= now
        )
        claimed = await self._connection.execute(
            insert.on_conflict_do_update(
                index_elements=[self._table.c.username],
                set_={"user_id": insert.excluded.user_id, "expires_at": insert.excluded.expires_at},
                where=is_free,
            ).returning(self._table.c.username),
            parameters,
        )
        if len(claimed.scalars().all()) != len(names):
            raise UsernameTaken

    async def find_taken(self, names: Collection[str], *, now: datetime) -> Mapping[str, UUID]:
        """Returns those of these names that are not free, and the accounts that may have them."""
        rows = await self._connection.execute(
            sa.select(self._table.c.username, self._table.c.user_id).where(
                any_of(self._connection.dialect, self._table.c.username, names),
                sa.or_(self._table.c.expires_at.is_(None), self._table.c.expires_at > now),
            )
        )
        return {row.username: row.user_id for row in rows}

    async def release(self, name: str, *, user_id: UUID, until: datetime) -> None:
        """Releases a name. Until the time `until`, only the account `user_id` can claim it."""
        await self._connection.execute(
            sa.update(self._table)
            .where(self._table.c.username == name)
            .values(user_id=user_id, expires_at=until)
        )

    async def delete(self, names: Collection[str]) -> None:
        """Frees names that this transaction has claimed."""
        await self._connection.execute(
            sa.delete(self._table).where(self._table.c.username.in_(names))
        )

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Deletes up to `limit` names that are free again; returns their number.

        Rows that another transaction has locked are skipped.
        """
        expired = (
            sa.select(self._table.c.username).where(self._table.c.expires_at <= now).limit(limit)
        )
        names = (
            (await self._connection.execute(expired.with_for_update(skip_locked=True)))
            .scalars()
            .all()
        )
        if names:
            await self.delete(names)
        return len(names)
