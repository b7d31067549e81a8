"""Queries on `recovery_codes`."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.domain.factors.values import RecoveryCodesLeft
from authapi.storage.models import Tables


class RecoveryCodeTable:
    """The recovery codes of accounts, in one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._table = tables.recovery_codes

    async def replace(self, user_id: UUID, codes: Iterable[SecretHash], *, at: datetime) -> None:
        """Replaces all codes of a user, who must be locked, by `codes`."""
        await self.remove_all(user_id)
        await self._connection.execute(
            sa.insert(self._table),
            [{"user_id": user_id, "code_hash": code, "created_at": at} for code in codes],
        )

    async def use(self, user_id: UUID, code: SecretHash, *, at: datetime) -> bool:
        """Uses a code up; False if the user has no such code, or it was used before.

        Of several concurrent transactions with one code, one gets True.
        """
        result = await self._connection.execute(
            sa.update(self._table)
            .where(
                self._table.c.user_id == user_id,
                self._table.c.code_hash == code,
                self._table.c.used_at.is_(None),
            )
            .values(used_at=at)
        )
        return result.rowcount == 1

    async def has_unused(self, user_id: UUID, code: SecretHash) -> bool:
        """Whether the user has this code, and has not used it."""
        statement = sa.select(
            sa.exists().where(
                self._table.c.user_id == user_id,
                self._table.c.code_hash == code,
                self._table.c.used_at.is_(None),
            )
        )
        return bool(await self._connection.scalar(statement))

    async def left(self, user_id: UUID) -> RecoveryCodesLeft | None:
        """Returns how many codes of a user are unused; None if codes were never made."""
        unused = sa.func.count().filter(self._table.c.used_at.is_(None))
        statement = sa.select(unused, sa.func.max(self._table.c.created_at)).where(
            self._table.c.user_id == user_id
        )
        count, made_at = (await self._connection.execute(statement)).one()
        return None if made_at is None else RecoveryCodesLeft(count, made_at)

    async def remove_all(self, user_id: UUID) -> None:
        """Deletes all codes of a user."""
        await self._connection.execute(
            sa.delete(self._table).where(self._table.c.user_id == user_id)
        )
