"""Queries on `used_challenges`."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.factors.passkeys import UsedChallenge
from authapi.storage.models import Tables
from authapi.storage.tables.dialects import INSERTS


class UsedChallengeTable:
    """The challenges of passkeys that were used, in one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._table = tables.used_challenges

    async def add(self, used: UsedChallenge) -> bool:
        """Uses a challenge up; False if it was used before.

        Of several concurrent transactions with one challenge, one gets True; the others wait for
        its end.
        """
        insert = INSERTS[self._connection.dialect.name](self._table)
        # A driver may not count the rows of an insert.
        added = await self._connection.scalar(
            insert.values(digest=used.digest, expires_at=used.expires_at)
            .on_conflict_do_nothing(index_elements=[self._table.c.digest])
            .returning(self._table.c.digest)
        )
        return added is not None

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Deletes up to `limit` expired challenges; returns their number.

        Skips rows that another transaction has locked, as `EmailTokenTable.prune` does.
        """
        expired = (
            sa.select(self._table.c.digest).where(self._table.c.expires_at <= now).limit(limit)
        )
        rows = await self._connection.execute(expired.with_for_update(skip_locked=True))
        if found := rows.scalars().all():
            used = self._table.c.digest.in_(found)
            await self._connection.execute(sa.delete(self._table).where(used))
        return len(found)
