"""Queries on `used_challenges`."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.factors.passkeys import UsedChallenge
from authapi.storage.models import Tables
from authapi.storage.tables.statements import INSERTS, delete_expired


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

    async def has(self, digest: bytes) -> bool:
        """Whether the challenge with this digest was used."""
        found = self._table.c.digest == digest
        statement = sa.select(sa.exists().where(found))
        return bool(await self._connection.scalar(statement))

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Deletes up to `limit` expired challenges; returns their number."""
        return await delete_expired(self._connection, self._table.c.digest, now=now, limit=limit)
