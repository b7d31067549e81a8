"""Queries for the rows of the tables, and for their place on the disk."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.monitoring.statistics import TableSize
from authapi.storage.models import Tables

# A relation without statistics has -1 rows. `to_regclass` returns NULL for one that is missing, or
# that the role may not look up.
_POSTGRES = sa.text(
    "SELECT c.reltuples, pg_total_relation_size(c.oid) FROM pg_class c"
    " WHERE c.oid = to_regclass(CAST(:place AS text))"
)
_HAS_PAGES = sa.text(
    "SELECT count(*) FROM pragma_compile_options WHERE compile_options = 'ENABLE_DBSTAT_VTAB'"
)
_PAGES = sa.text(
    "SELECT m.tbl_name, sum(d.pgsize) AS size FROM dbstat d JOIN sqlite_master m ON m.name = d.name"
    " WHERE d.aggregate = TRUE GROUP BY m.tbl_name"
)
_PAGES_OF_ONE = sa.text(
    "SELECT sum(d.pgsize) FROM sqlite_master m JOIN dbstat d ON m.name = d.name"
    " WHERE d.aggregate = TRUE AND m.tbl_name = :name"
)


class SizeTable:
    """Reads how large the tables are. The work on SQLite grows with the size of the database."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._schema = tables

    async def all(self) -> Sequence[TableSize]:
        """Returns the sizes of the tables, with their indexes, the largest first.

        On PostgreSQL, rows are an estimate of its statistics, without which they are unknown.
        SQLite counts rows; it knows sizes if it is built with `dbstat`.
        """
        is_sqlite = self._connection.dialect.name == "sqlite"
        found = await (self._of_sqlite() if is_sqlite else self._of_postgres())
        return sorted(found, key=lambda it: (-(it.bytes or 0), it.name))

    async def bytes_of_events(self) -> int | None:
        """Returns the size of the events; None if the database does not tell."""
        events = self._schema.events
        if self._connection.dialect.name != "sqlite":
            return (await self._relation(events)).bytes
        if not await self._connection.scalar(_HAS_PAGES):
            return None
        size: int | None = await self._connection.scalar(_PAGES_OF_ONE, {"name": events.name})
        return size

    @property
    def _tables(self) -> Sequence[sa.Table]:
        return self._schema.metadata.sorted_tables

    async def _of_postgres(self) -> list[TableSize]:
        return [await self._relation(table) for table in self._tables]

    async def _relation(self, table: sa.Table) -> TableSize:
        place = {"place": self._connection.dialect.identifier_preparer.format_table(table)}
        row = (await self._connection.execute(_POSTGRES, place)).one_or_none()
        rows, size = (-1, None) if row is None else row
        return TableSize(table.name, None if rows < 0 else int(rows), True, size)

    async def _of_sqlite(self) -> list[TableSize]:
        sizes: Mapping[str, int] = {}
        if await self._connection.scalar(_HAS_PAGES):
            rows = (await self._connection.execute(_PAGES)).all()
            sizes = {row.tbl_name: row.size for row in rows}
        found = []
        for table in self._tables:
            count = await self._connection.scalar(sa.select(sa.func.count()).select_from(table))
            found.append(TableSize(table.name, count, False, sizes.get(table.name)))
        return found
