"""Queries on `email_tokens`."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.domain.email_token import EmailToken, Purpose
from authapi.storage.models import Tables
from authapi.storage.tables.statements import any_of, delete_expired

_COLUMNS = (
    "id",
    "user_id",
    "purpose",
    "email",
    "email_given",
    "password_version",
    "created_at",
    "expires_at",
)


class EmailTokenTable:
    """Queries on `email_tokens`, in one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._table = tables.email_tokens

    async def add(self, token: EmailToken, hashed: SecretHash) -> None:
        """Inserts `token`. `hashed` is the hash of its text, by which `find` looks it up."""
        await self._connection.execute(
            sa.insert(self._table).values(
                id=token.id,
                user_id=token.user_id,
                purpose=token.purpose,
                secret_hash=hashed,
                email=token.email,
                email_given=token.email_given,
                password_version=token.password_version,
                created_at=token.created_at,
                expires_at=token.expires_at,
            )
        )

    async def find(
        self, hashed: SecretHash, purposes: Collection[Purpose], *, now: datetime
    ) -> EmailToken | None:
        """Returns the unexpired token with this hash for one of `purposes`."""
        statement = sa.select(*(self._table.c[name] for name in _COLUMNS)).where(
            self._table.c.secret_hash == hashed,
            self._table.c.purpose.in_(purposes),
            self._table.c.expires_at > now,
        )
        return _token((await self._connection.execute(statement)).one_or_none())

    async def find_of_user(
        self, user_id: UUID, purpose: Purpose, *, now: datetime
    ) -> EmailToken | None:
        """Returns the newest unexpired token of a user for `purpose`."""
        statement = (
            sa.select(*(self._table.c[name] for name in _COLUMNS))
            .where(
                self._table.c.user_id == user_id,
                self._table.c.purpose == purpose,
                self._table.c.expires_at > now,
            )
            .order_by(self._table.c.created_at.desc())
            .limit(1)
        )
        return _token((await self._connection.execute(statement)).one_or_none())

    async def has_valid(
        self, user_id: UUID, purpose: Purpose, email: str, *, now: datetime
    ) -> bool:
        """Whether the user has an unexpired token for `purpose` and this canonical address."""
        statement = sa.select(
            sa.exists().where(
                self._table.c.user_id == user_id,
                self._table.c.purpose == purpose,
                self._table.c.email == email,
                self._table.c.expires_at > now,
            )
        )
        return bool(await self._connection.scalar(statement))

    async def consume(self, token_id: UUID) -> bool:
        """Deletes a token; False if it was deleted already.

        Of several concurrent transactions, one gets True. The use of the token belongs in the same
        transaction, so that both are committed or neither is.
        """
        result = await self._connection.execute(
            sa.delete(self._table).where(self._table.c.id == token_id)
        )
        return result.rowcount == 1

    async def delete_for_user(
        self,
        user_id: UUID,
        purposes: Collection[Purpose] = tuple(Purpose),
        *,
        since: datetime | None = None,
    ) -> None:
        """Deletes the tokens of a user for `purposes`; with `since`, those created from then on."""
        conditions = [self._table.c.user_id == user_id, self._table.c.purpose.in_(purposes)]
        if since is not None:
            conditions.append(self._table.c.created_at >= since)
        await self._connection.execute(sa.delete(self._table).where(*conditions))

    async def is_reserved(self, email: str, *, except_user: UUID, now: datetime) -> bool:
        """Whether a user other than `except_user` can revert to this canonical address.

        Call it after the address was set for `except_user` in the same transaction. The unique
        index on addresses has then waited for a transaction that frees the address, and this query
        sees the reservation that it committed.
        """
        statement = sa.select(
            sa.exists().where(
                self._table.c.email == email,
                self._table.c.purpose == Purpose.REVERT_EMAIL_CHANGE,
                self._table.c.user_id != except_user,
                self._table.c.expires_at > now,
            )
        )
        return bool(await self._connection.scalar(statement))

    async def find_reserved(self, emails: Collection[str], *, now: datetime) -> set[str]:
        """Returns those of these canonical addresses that a user can still revert to."""
        unexpired = (
            self._table.c.purpose == Purpose.REVERT_EMAIL_CHANGE,
            self._table.c.expires_at > now,
        )
        # Usually there is no reservation at all, and this query avoids the one with all addresses.
        if not await self._connection.scalar(sa.select(sa.exists().where(*unexpired))):
            return set()
        is_one = any_of(self._connection.dialect, self._table.c.email, emails)
        rows = await self._connection.execute(
            sa.select(self._table.c.email).where(is_one, *unexpired)
        )
        return set(rows.scalars())

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Deletes up to `limit` expired tokens; returns their number."""
        return await delete_expired(self._connection, self._table.c.id, now=now, limit=limit)


def _token(row: sa.Row[Any] | None) -> EmailToken | None:
    if row is None:
        return None
    token_id, user_id, purpose, *rest = tuple(row)
    return EmailToken(token_id, user_id, Purpose(purpose), *rest)
