"""Which names of a database are ours, for Alembic's `include_name` and `include_object`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.sql.schema import SchemaItem

from authapi.storage.models import tables_of
from authapi.storage.names import TableNames

ParentKey = Literal["schema_name", "table_name", "schema_qualified_table_name"]


@dataclass(frozen=True, slots=True)
class OwnNames:
    """For our own migrations: our tables, and no others."""

    names: TableNames

    def include_name(
        self, name: str | None, kind: str, parents: Mapping[ParentKey, str | None]
    ) -> bool:
        """Returns whether Alembic compares `name` in the database with our tables."""
        if kind == "schema":
            return name == self.names.schema
        if kind == "table":
            return name in _tables(self.names) and parents.get("schema_name") == self.names.schema
        return True


@dataclass(frozen=True, slots=True)
class OtherNames:
    """For the migrations of an application in the same database: every table except ours."""

    names: TableNames

    def include_name(
        self, name: str | None, kind: str, parents: Mapping[ParentKey, str | None]
    ) -> bool:
        """Returns whether `name` in the database belongs to the application."""
        return kind != "table" or not self._is_ours(name, parents.get("schema_name"))

    def include_object(
        self,
        item: SchemaItem,
        name: str | None,
        kind: str,
        reflected: bool,  # Alembic's signature
        compare_to: SchemaItem | None,
    ) -> bool:
        """Returns whether `item`, of the database or of their metadata, is the application's."""
        table = item if isinstance(item, sa.Table) else getattr(item, "table", None)
        return not isinstance(table, sa.Table) or not self._is_ours(table.name, table.schema)

    def _is_ours(self, table: str | None, schema: str | None) -> bool:
        # Alembic writes None for the schema that is the first one of the `search_path`. Tables with
        # our prefix in it are ours too if it is the schema of our settings.
        same_place = schema == self.names.schema or None in (schema, self.names.schema)
        return same_place and table in {self.names.version, *_tables(self.names)}


def _tables(names: TableNames) -> set[str]:
    return {table.name for table in tables_of(names).metadata.tables.values()}
