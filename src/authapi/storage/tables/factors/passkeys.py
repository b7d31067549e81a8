"""Queries on `passkeys`, and on the handle that authenticators know an account by."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.factors.passkeys import Passkey
from authapi.storage.models import Tables
from authapi.storage.tables.statements import INSERTS

_COLUMNS = (
    "id",
    "user_id",
    "credential_id",
    "public_key",
    "algorithm",
    "sign_count",
    "transports",
    "aaguid",
    "backup_eligible",
    "backed_up",
    "name",
    "created_at",
    "last_used_at",
)


class PasskeyTable:
    """The passkeys of accounts, in one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._table = tables.passkeys
        self._users = tables.users
        self._columns = tuple(self._table.c[name] for name in _COLUMNS)

    async def add(self, passkey: Passkey) -> bool:
        """Inserts a passkey; False if an account has it already. The user must be locked."""
        values = {name: getattr(passkey, name) for name in _COLUMNS}
        values["transports"] = list(passkey.transports)
        values["credential_hash"] = _hash(passkey.credential_id)
        insert = INSERTS[self._connection.dialect.name](self._table).values(values)
        # A driver may not count the rows of an insert.
        added = await self._connection.scalar(
            insert.on_conflict_do_nothing(index_elements=[self._table.c.credential_hash]).returning(
                self._table.c.id
            )
        )
        return added is not None

    async def find_by_credential(self, credential_id: bytes) -> tuple[Passkey, bytes | None] | None:
        """Returns the passkey with this credential id, and the handle of its account, or None."""
        statement = (
            sa.select(*self._columns, self._users.c.webauthn_handle)
            .join_from(self._table, self._users)
            .where(self._table.c.credential_hash == _hash(credential_id))
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else (_passkey(row[:-1]), row[-1])

    async def list_for_user(self, user_id: UUID) -> Sequence[Passkey]:
        """Returns the passkeys of a user, the oldest first."""
        statement = (
            sa.select(*self._columns)
            .where(self._table.c.user_id == user_id)
            .order_by(self._table.c.id)
        )
        return [_passkey(row) for row in await self._connection.execute(statement)]

    async def count(self, user_id: UUID) -> int:
        """Returns how many passkeys a user has."""
        statement = sa.select(sa.func.count()).where(self._table.c.user_id == user_id)
        return (await self._connection.execute(statement)).scalar_one()

    async def use(
        self, passkey_id: UUID, *, sign_count: int, backed_up: bool, at: datetime
    ) -> bool:
        """Records a use; False if the passkey is gone, or its counter has not increased.

        A counter that stays at zero counts nothing. Of several concurrent transactions with one
        counter, one gets True.
        """
        stored = self._table.c.sign_count
        has_increased = (stored == 0) if sign_count == 0 else (stored < sign_count)
        result = await self._connection.execute(
            sa.update(self._table)
            .where(self._table.c.id == passkey_id, has_increased)
            .values(sign_count=sign_count, backed_up=backed_up, last_used_at=at)
        )
        return result.rowcount == 1

    async def rename(self, user_id: UUID, passkey_id: UUID, name: str) -> Passkey | None:
        """Renames a passkey of a user, and returns it; None if the user has no such passkey."""
        statement = (
            sa.update(self._table)
            .where(self._table.c.id == passkey_id, self._table.c.user_id == user_id)
            .values(name=name)
            .returning(*self._columns)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _passkey(row)

    async def remove(self, user_id: UUID, passkey_id: UUID) -> bool:
        """Deletes a passkey of a user; False if the user has no such passkey."""
        result = await self._connection.execute(
            sa.delete(self._table).where(
                self._table.c.id == passkey_id, self._table.c.user_id == user_id
            )
        )
        return result.rowcount == 1

    async def remove_all(self, user_id: UUID) -> bool:
        """Deletes all passkeys of a user; returns whether there was one."""
        result = await self._connection.execute(
            sa.delete(self._table).where(self._table.c.user_id == user_id)
        )
        return result.rowcount > 0

    async def remove_since(self, user_id: UUID, since: datetime) -> bool:
        """Deletes the passkeys that a user added at `since` or later; whether there was one."""
        result = await self._connection.execute(
            sa.delete(self._table).where(
                self._table.c.user_id == user_id, self._table.c.created_at >= since
            )
        )
        return result.rowcount > 0

    async def handle(self, user_id: UUID, new: bytes) -> bytes:
        """Returns the handle of a user, who must be locked; `new` becomes it if there is none."""
        statement = sa.select(self._users.c.webauthn_handle).where(self._users.c.id == user_id)
        found: bytes | None = await self._connection.scalar(statement)
        if found is not None:
            return found
        await self._connection.execute(
            sa.update(self._users).where(self._users.c.id == user_id).values(webauthn_handle=new)
        )
        return new


def _hash(credential_id: bytes) -> bytes:
    return hashlib.sha256(credential_id).digest()


def _passkey(row: Sequence[Any]) -> Passkey:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Passkey(**{**values, "transports": tuple(values["transports"])})
