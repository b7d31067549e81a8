"""Queries on `totp_factors`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.factors.values import TOTPFactor
from authapi.storage.models import Tables
from authapi.storage.tables.statements import delete_expired

_COLUMNS = (
    "id",
    "user_id",
    "secret",
    "last_step",
    "session_id",
    "credentials_version",
    "failures",
    "owner_told_at",
    "created_at",
    "confirmed_at",
    "last_used_at",
    "expires_at",
)


class TOTPFactorTable:
    """Authenticator apps and enrolments, in one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._table, self._users = tables.totp_factors, tables.users
        self._passkeys = tables.passkeys
        self._columns = tuple(self._table.c[name] for name in _COLUMNS)
        self._is_confirmed = self._table.c.confirmed_at.is_not(None)

    async def find(self, user_id: UUID) -> TOTPFactor | None:
        """Returns the confirmed factor of a user, or None."""
        return await self._one(self._table.c.user_id == user_id, self._is_confirmed)

    async def find_enrolment(self, user_id: UUID, *, now: datetime) -> TOTPFactor | None:
        """Returns the unexpired enrolment of a user, or None."""
        return await self._one(
            self._table.c.user_id == user_id,
            sa.not_(self._is_confirmed),
            self._table.c.expires_at > now,
        )

    async def add(self, factor: TOTPFactor) -> None:
        """Inserts an enrolment, which replaces an earlier one. The user must be locked."""
        await self._connection.execute(
            sa.delete(self._table).where(
                self._table.c.user_id == factor.user_id, sa.not_(self._is_confirmed)
            )
        )
        values = {name: getattr(factor, name) for name in _COLUMNS}
        await self._connection.execute(sa.insert(self._table).values(values))

    async def confirm(self, factor_id: UUID, *, step: int, at: datetime) -> bool:
        """Confirms an enrolment, and uses `step` up; False if it is gone or confirmed already."""
        result = await self._connection.execute(
            sa.update(self._table)
            .where(
                self._table.c.id == factor_id,
                sa.not_(self._is_confirmed),
                self._table.c.expires_at > at,
                self._table.c.last_step < step,
            )
            .values(confirmed_at=at, last_used_at=at, last_step=step, expires_at=None, failures=0)
        )
        return result.rowcount == 1

    async def use(self, factor_id: UUID, *, step: int, at: datetime) -> bool:
        """Uses the time step `step` up; False if it, or a later one, was used before.

        Of several concurrent transactions with one step, one gets True (RFC 6238, section 5.2).
        """
        result = await self._connection.execute(
            sa.update(self._table)
            .where(
                self._table.c.id == factor_id,
                self._is_confirmed,
                self._table.c.last_step < step,
            )
            .values(last_step=step, last_used_at=at, failures=0)
        )
        return result.rowcount == 1

    async def count_attempt(self, factor_id: UUID, *, limit: int) -> int | None:
        """Counts a code as wrong; returns how many there are since the last right one.

        Returns None if `limit` are counted already, or the factor is gone. Call it in a transaction
        of its own, before the code is compared: of several at once, no more are compared.
        """
        failures = self._table.c.failures
        statement = (
            sa.update(self._table)
            .where(self._table.c.id == factor_id, failures < limit)
            .values(failures=failures + 1)
            .returning(failures)
        )
        count: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return count

    async def reset_failures(self, user_id: UUID) -> None:
        """Forgets the wrong codes of a user, who has proved the account in another way."""
        await self._connection.execute(
            sa.update(self._table)
            .where(self._table.c.user_id == user_id, self._table.c.failures > 0)
            .values(failures=0)
        )

    async def set_owner_told(self, factor_id: UUID, *, at: datetime, before: datetime) -> bool:
        """Sets when the owner was told of wrong codes; False if that was after `before`."""
        told_at = self._table.c.owner_told_at
        result = await self._connection.execute(
            sa.update(self._table)
            .where(self._table.c.id == factor_id, told_at.is_(None) | (told_at <= before))
            .values(owner_told_at=at)
        )
        return result.rowcount == 1

    async def remove_all(self, user_id: UUID) -> bool:
        """Deletes the factor and enrolments of a user; returns whether a factor was confirmed."""
        statement = sa.delete(self._table).where(self._table.c.user_id == user_id)
        rows = await self._connection.execute(statement.returning(self._table.c.confirmed_at))
        return any(confirmed_at is not None for confirmed_at in rows.scalars())

    async def remove_since(self, user_id: UUID, since: datetime) -> bool:
        """Deletes the factor of a user if it was confirmed at `since` or later, and enrolments.

        Returns whether a confirmed factor was deleted.
        """
        confirmed_at = self._table.c.confirmed_at
        statement = sa.delete(self._table).where(
            self._table.c.user_id == user_id, confirmed_at.is_(None) | (confirmed_at >= since)
        )
        rows = await self._connection.execute(statement.returning(confirmed_at))
        return any(found is not None for found in rows.scalars())

    async def users_out_of_step(self, *, limit: int) -> Sequence[UUID]:
        """Returns up to `limit` accounts whose `mfa_since` is wrong.

        It is set without a confirmed factor or passkey, so that no login can be completed, or not
        set with one, so that no login is asked for it.
        """
        has_app = sa.exists().where(self._table.c.user_id == self._users.c.id, self._is_confirmed)
        has_passkey = sa.exists().where(self._passkeys.c.user_id == self._users.c.id)
        has_factor = has_app | has_passkey
        statement = (
            sa.select(self._users.c.id)
            .where(self._users.c.mfa_since.is_not(None) != has_factor)
            .order_by(self._users.c.id)
            .limit(limit)
        )
        return (await self._connection.execute(statement)).scalars().all()

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[TOTPFactor]:
        """Returns up to `limit` factors and enrolments with ids above `after`, locked, by id.

        For `keys rewrap`, which encrypts all secrets again.
        """
        statement = sa.select(*self._columns).order_by(self._table.c.id).limit(limit)
        if after is not None:
            statement = statement.where(self._table.c.id > after)
        rows = await self._connection.execute(statement.with_for_update())
        return [TOTPFactor(*row) for row in rows]

    async def reencrypt(self, factor_id: UUID, secret: bytes) -> None:
        """Replaces the encrypted secret."""
        await self._connection.execute(
            sa.update(self._table).where(self._table.c.id == factor_id).values(secret=secret)
        )

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Deletes up to `limit` expired enrolments; returns their number."""
        return await delete_expired(self._connection, self._table.c.id, now=now, limit=limit)

    async def _one(self, *conditions: sa.ColumnElement[bool]) -> TOTPFactor | None:
        statement = sa.select(*self._columns).where(*conditions)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else TOTPFactor(*row)
