"""Queries on `refresh_families`."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.storage.models import Tables


@dataclass(frozen=True, slots=True)
class RefreshFamily:
    """The state of the refresh tokens of one session."""

    session_id: UUID
    current: SecretHash
    previous: SecretHash | None
    """The hash of the token before the current one; None until the first rotation."""
    nonce: bytes | None = field(repr=False)
    """Derives the current token from the previous one (`crypto.refresh_tokens`)."""
    rotated_at: datetime | None


_COLUMNS = ("session_id", "current_hash", "previous_hash", "nonce", "rotated_at")


@cache
def rotation(tables: Tables) -> sa.Update:
    """Returns the statement that replaces the current token of a family, and returns its session.

    It locks the session and then the family, as every transaction does, but waits for no lock. It
    changes nothing if the token is not the current one, the session has ended or is locked by
    another transaction, or its user is not active. Parameters: `family`, `current`, `successor`,
    `token_nonce`, `at`.
    """
    families, sessions, users = tables.refresh_families, tables.sessions, tables.users
    locked = (
        sa.select(sessions.c.id)
        .join(families, families.c.session_id == sessions.c.id)
        .join(users, users.c.id == sessions.c.user_id)
        .where(families.c.family_hash == sa.bindparam("family"), users.c.is_active)
        .with_for_update(of=sessions, skip_locked=True)
        .cte("locked")
    )
    current = sa.bindparam("current", type_=families.c.current_hash.type)
    return (
        sa.update(families)
        .where(families.c.session_id == locked.c.id, families.c.current_hash == current)
        .values(
            current_hash=sa.bindparam("successor"),
            previous_hash=current,
            nonce=sa.bindparam("token_nonce"),
            rotated_at=sa.bindparam("at"),
        )
        .returning(families.c.session_id)
    )


class RefreshFamilyTable:
    """Refresh families, inside one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._families, self._sessions = tables.refresh_families, tables.sessions

    async def add(self, session_id: UUID, *, family: SecretHash, current: SecretHash) -> None:
        """Inserts the family of a session, with the hash of its first token."""
        await self._connection.execute(
            sa.insert(self._families).values(
                session_id=session_id, family_hash=family, current_hash=current
            )
        )

    async def find(self, family: SecretHash) -> RefreshFamily | None:
        """Returns the family with this family hash, or None."""
        statement = sa.select(*(self._families.c[name] for name in _COLUMNS)).where(
            self._families.c.family_hash == family
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else RefreshFamily(*row)

    async def rotate(
        self,
        family: SecretHash,
        *,
        current: SecretHash,
        successor: SecretHash,
        nonce: bytes,
        at: datetime,
    ) -> bool:
        """Replaces `current` by `successor`. Returns False if `current` is not the current token.

        One statement compares and swaps, so that only one of several concurrent calls succeeds.
        """
        result = await self._connection.execute(
            sa.update(self._families)
            .where(
                self._families.c.family_hash == family,
                self._families.c.current_hash == current,
            )
            .values(current_hash=successor, previous_hash=current, nonce=nonce, rotated_at=at)
        )
        return result.rowcount == 1

    async def delete_for_user(self, user_id: UUID) -> None:
        """Deletes every family of a user, but not the sessions."""
        owned = sa.select(self._sessions.c.id).where(self._sessions.c.user_id == user_id)
        await self._connection.execute(
            sa.delete(self._families).where(self._families.c.session_id.in_(owned))
        )
