"""Queries on `one_time_secrets`."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.storage.models import one_time_secrets as table


class Purpose(StrEnum):
    """What a one-time secret is good for, and nothing else."""

    CONFIRM = "confirm"
    """Confirms the address of the account."""
    RESET = "reset"
    """Chooses another password."""
    CHANGE = "change"
    """Confirms an address that is to become that of the account."""
    UNDO = "undo"
    """Gives the account its old address back."""
    INVITATION = "invitation"
    """Takes over an account that was made for its reader."""


@dataclass(frozen=True, slots=True)
class OneTimeSecret:
    """What was sent by mail, without the secret itself."""

    id: UUID
    user_id: UUID
    purpose: Purpose
    email: str
    """The canonical address that it is about."""
    email_given: str
    """The same, as it was written."""
    password_version: int
    """That of the account when it was made."""
    created_at: datetime
    expires_at: datetime


_COLUMNS = (
    table.c.id,
    table.c.user_id,
    table.c.purpose,
    table.c.email,
    table.c.email_given,
    table.c.password_version,
    table.c.created_at,
    table.c.expires_at,
)


class OneTimeSecretTable:
    """One-time secrets, inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, secret: OneTimeSecret, hashed: SecretHash) -> None:
        """Insert `secret`, found later by the hash of what was sent."""
        await self._connection.execute(
            sa.insert(table).values(
                id=secret.id,
                user_id=secret.user_id,
                purpose=secret.purpose,
                secret_hash=hashed,
                email=secret.email,
                email_given=secret.email_given,
                password_version=secret.password_version,
                created_at=secret.created_at,
                expires_at=secret.expires_at,
            )
        )

    async def find(
        self, hashed: SecretHash, purposes: Collection[Purpose], *, now: datetime
    ) -> OneTimeSecret | None:
        """The secret for one of `purposes` with this hash, if its time is not over."""
        statement = sa.select(*_COLUMNS).where(
            table.c.secret_hash == hashed,
            table.c.purpose.in_(purposes),
            table.c.expires_at > now,
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        key, user_id, purpose, *rest = row
        return OneTimeSecret(key, user_id, Purpose(purpose), *rest)

    async def is_live(self, user_id: UUID, purpose: Purpose, email: str, *, now: datetime) -> bool:
        """Whether the user has one for `purpose` about this canonical address that still works."""
        statement = sa.select(
            sa.exists().where(
                table.c.user_id == user_id,
                table.c.purpose == purpose,
                table.c.email == email,
                table.c.expires_at > now,
            )
        )
        return bool(await self._connection.scalar(statement))

    async def consume(self, secret_id: UUID) -> bool:
        """Remove it; whether it was still there. Of any number at the same moment one is told so.

        What it is good for belongs into the same transaction: both happen, or neither.
        """
        result = await self._connection.execute(sa.delete(table).where(table.c.id == secret_id))
        return result.rowcount == 1

    async def end_of(
        self,
        user_id: UUID,
        purposes: Collection[Purpose] = tuple(Purpose),
        *,
        since: datetime | None = None,
    ) -> None:
        """Remove those of a user for `purposes`, if `since` is given only those made from then."""
        conditions = [table.c.user_id == user_id, table.c.purpose.in_(purposes)]
        if since is not None:
            conditions.append(table.c.created_at >= since)
        await self._connection.execute(sa.delete(table).where(*conditions))

    async def reserves(self, email: str, *, unless_for: UUID, now: datetime) -> bool:
        """Whether an account other than `unless_for` can still get this canonical address back.

        Asked after the address is given to `unless_for`, in the same transaction: the unique index
        on addresses makes that wait for an account that leaves the address, whose commit makes the
        reservation seen here.
        """
        statement = sa.select(
            sa.exists().where(
                table.c.email == email,
                table.c.purpose == Purpose.UNDO,
                table.c.user_id != unless_for,
                table.c.expires_at > now,
            )
        )
        return bool(await self._connection.scalar(statement))

    async def reserved(self, emails: Collection[str], *, now: datetime) -> set[str]:
        """Which of these canonical addresses some account can still get back."""
        live = (table.c.purpose == Purpose.UNDO, table.c.expires_at > now)
        # Most of the time there is none at all, and a list of addresses need not be looked for.
        if not await self._connection.scalar(sa.select(sa.exists().where(*live))):
            return set()
        found = await self._connection.execute(
            sa.select(table.c.email).where(table.c.email.in_(emails), *live)
        )
        return set(found.scalars())

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Remove up to `limit` whose time is over; how many they were.

        Those that another transaction holds are passed over: many are locked here, whose users are
        not held, so to wait for one of them could be a deadlock.
        """
        batch = sa.select(table.c.id).where(table.c.expires_at <= now).limit(limit)
        over = (
            (await self._connection.execute(batch.with_for_update(skip_locked=True)))
            .scalars()
            .all()
        )
        if over:
            await self._connection.execute(sa.delete(table).where(table.c.id.in_(over)))
        return len(over)
