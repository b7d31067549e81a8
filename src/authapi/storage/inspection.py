"""What a test sees of the database: the executed statements, and the stored values."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from authapi.storage.database import Database


@contextmanager
def record_statements(database: Database, *, without: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Records the SQL statements inside the block, without those of the outbox worker.

    Statements that begin with a word of `without` are left out.
    """
    engine, direct_reads = database.engine.sync_engine, database.direct_reads
    statements: list[str] = []

    def record(statement: str) -> None:
        task = asyncio.current_task()
        is_of_worker = task is not None and task.get_name().startswith("authapi-outbox")
        if not is_of_worker and not statement.startswith(without):
            statements.append(statement)

    def record_of_engine(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        record(statement)

    event.listen(engine, "before_cursor_execute", record_of_engine)
    if direct_reads is not None:
        direct_reads.observers.append(record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record_of_engine)
        if direct_reads is not None:
            direct_reads.observers.remove(record)


async def count_rows(database: Database, table: str) -> int:
    """Returns the number of rows in `table`, named without its prefix."""
    query = sa.select(sa.func.count()).select_from(_bare(database, table))
    async with database.engine.connect() as connection:
        return int((await connection.execute(query)).scalar_one())


async def stored_values(database: Database, *tables: str) -> list[bytes]:
    """Returns every stored value of `tables`, in the form in which the database has it.

    `tables` are named without their prefix.
    """
    found: list[bytes] = []
    async with database.engine.connect() as connection:
        for table in tables:
            # Without the columns: their types would convert the values.
            query: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(
                _bare(database, table)
            )
            for row in await connection.execute(query):
                found += [value if isinstance(value, bytes) else _plain(value) for value in row]
    return found


def _bare(database: Database, table: str) -> sa.TableClause:
    names = database.tables.names
    return sa.table(names.table(table), schema=names.schema)


def _plain(value: object) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value, default=str)).encode()
