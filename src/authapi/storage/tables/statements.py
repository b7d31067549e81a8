"""Statements of several tables: inserts with `ON CONFLICT`, and the deletion of expired rows."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

_Insert = Callable[[sa.Table], sqlite.Insert | postgresql.Insert]

INSERTS: Mapping[str, _Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""The insert of each dialect, by its name: `ON CONFLICT` is not standard SQL."""


async def delete_expired(
    connection: AsyncConnection, key: sa.Column[Any], *, now: datetime, limit: int
) -> int:
    """Deletes up to `limit` rows whose `expires_at` has passed at `now`; returns their number.

    `key` is the primary key of the table. Rows that another transaction has locked are skipped:
    this transaction locks many rows without locking their users first, so waiting for one of them
    could deadlock.
    """
    table = key.table
    expired = sa.select(key).where(table.c.expires_at <= now).limit(limit)
    rows = await connection.execute(expired.with_for_update(skip_locked=True))
    if found := rows.scalars().all():
        await connection.execute(sa.delete(table).where(key.in_(found)))
    return len(found)
