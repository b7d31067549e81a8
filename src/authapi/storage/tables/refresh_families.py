"""Queries on `refresh_families`."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.storage.models import refresh_families, sessions


@dataclass(frozen=True, slots=True)
class RefreshFamily:
    """The refresh tokens of one session, of which one is current."""

    session_id: UUID
    current: SecretHash
    previous: SecretHash | None
    """The token before that; None until the first rotation."""
    nonce: bytes | None = field(repr=False)
    """What the current token follows from the previous one by."""
    rotated_at: datetime | None


_COLUMNS = (
    refresh_families.c.session_id,
    refresh_families.c.current_hash,
    refresh_families.c.previous_hash,
    refresh_families.c.nonce,
    refresh_families.c.rotated_at,
)


class RefreshFamilyTable:
    """Refresh families, inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, session_id: UUID, *, family: SecretHash, current: SecretHash) -> None:
        """Insert the family of a session, with its first token."""
        await self._connection.execute(
            sa.insert(refresh_families).values(
                session_id=session_id, family_hash=family, current_hash=current
            )
        )

    async def find(self, family: SecretHash) -> RefreshFamily | None:
        """The family whose tokens share what `family` is the hash of."""
        statement = sa.select(*_COLUMNS).where(refresh_families.c.family_hash == family)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else RefreshFamily(*row)

    async def rotate(
        self,
        family: SecretHash,
        *,
        presented: SecretHash,
        successor: SecretHash,
        nonce: bytes,
        at: datetime,
    ) -> bool:
        """Put `successor` in the place of `presented`, if that is current; whether it was.

        One statement compares and swaps, so that of any number at the same moment one wins.
        """
        found = await self._connection.execute(
            sa.update(refresh_families)
            .where(
                refresh_families.c.family_hash == family,
                refresh_families.c.current_hash == presented,
            )
            .values(current_hash=successor, previous_hash=presented, nonce=nonce, rotated_at=at)
        )
        return found.rowcount == 1

    async def end_of(self, user_id: UUID) -> None:
        """Remove every family of a user; the sessions live on."""
        owned = sa.select(sessions.c.id).where(sessions.c.user_id == user_id)
        await self._connection.execute(
            sa.delete(refresh_families).where(refresh_families.c.session_id.in_(owned))
        )
