"""Statements of several tables: inserts of many rows, and the deletion of expired rows."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

_Insert = Callable[[sa.Table], sqlite.Insert | postgresql.Insert]

INSERTS: Mapping[str, _Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""The insert of each dialect, by its name: `ON CONFLICT` is not standard SQL."""


def any_of(
    dialect: Dialect, column: sa.Column[Any], values: Collection[object]
) -> sa.ColumnElement[bool]:
    """Returns the condition that `column` has one of these values.

    PostgreSQL gets them as one parameter, for the reason of `insert_many`.
    """
    if dialect.name != "postgresql":
        return column.in_(values)
    return column == sa.any_(sa.literal([*values], postgresql.ARRAY(column.type)))


_ROWS = "rows"
"""The parameter with the rows of `insert_many`, on PostgreSQL."""


def insert_many(
    dialect: Dialect, table: sa.Table, rows: Sequence[Mapping[str, object]]
) -> tuple[sqlite.Insert | postgresql.Insert, Any]:
    """Returns an insert of all `rows`, in their order, and the parameters to execute it with.

    All rows have values for the same columns. `ON CONFLICT` and `RETURNING` can be added. `rows`
    must not be empty.

    PostgreSQL gets the rows as one parameter. With a parameter for each value, the client would
    take most of the time to number them, and there could be 65,535 at most. For SQLite, SQLAlchemy
    divides the rows into statements.
    """
    if dialect.name != "postgresql":
        return INSERTS[dialect.name](table), [*rows]
    names = tuple(rows[0])
    return _insert_records(table, names), {_ROWS: _records(dialect, table, names, rows)}


@cache
def _insert_records(table: sa.Table, names: tuple[str, ...]) -> postgresql.Insert:
    """Returns the insert from a JSON array, whose objects have the members `names`."""
    text = sa.cast(sa.bindparam(_ROWS, type_=sa.Text), sa.JSON)
    records = (
        sa.func.json_to_recordset(text)
        .table_valued(*(sa.column(name, table.c[name].type) for name in names), name="new_rows")
        .render_derived(with_types=True)
    )
    selected = sa.select(*(records.c[name] for name in names))
    return postgresql.insert(table).from_select(names, selected)


def _records(
    dialect: Dialect, table: sa.Table, names: Sequence[str], rows: Sequence[Mapping[str, object]]
) -> str:
    columns = [
        [convert(row[name]) for row in rows]
        for name, convert in ((name, _converter(table.c[name].type, dialect)) for name in names)
    ]
    records = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    # Not only ASCII, because a database in another encoding than UTF-8 refuses escape sequences.
    return json.dumps(records, ensure_ascii=False, separators=(",", ":"))


def _converter(kind: sa.types.TypeEngine[Any], dialect: Dialect) -> Callable[[Any], object]:
    """Returns a function that converts the values of a column for JSON."""
    if isinstance(kind, TypeDecorator):
        own, inner = kind.process_bind_param, _converter(kind.impl_instance, dialect)
        return lambda value: inner(own(value, dialect))
    if isinstance(kind, sa.Uuid):
        return lambda value: None if value is None else str(value)
    if isinstance(kind, sa.DateTime):
        return lambda value: None if value is None else value.isoformat()
    if isinstance(kind, sa.String | sa.Boolean | sa.Integer | sa.JSON):
        return lambda value: value
    raise TypeError(f"no JSON for {kind!r}")


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
