"""The names of the tables: a prefix, and on PostgreSQL a schema."""

from dataclasses import dataclass
from typing import Protocol


class _Named(Protocol):
    @property
    def table_prefix(self) -> str: ...

    @property
    def database_schema(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class TableNames:
    """The names of the tables of one installation."""

    prefix: str = "authapi_"
    schema: str | None = None
    """None for the first schema of the `search_path`, and on SQLite."""

    @classmethod
    def of(cls, settings: _Named) -> "TableNames":
        """Returns the names that the settings choose."""
        return cls(settings.table_prefix, settings.database_schema)

    @property
    def version(self) -> str:
        """The table with the revision of the schema."""
        return self.table("version")

    def table(self, name: str) -> str:
        """Returns the name of the table `name`, without the schema."""
        return f"{self.prefix}{name}"

    def place(self, table: str) -> str:
        """Returns a table, named with its prefix, with its schema, as PostgreSQL writes it."""
        return table if self.schema is None else f'"{self.schema}".{table}'

    def column(self, table: str, column: str) -> str:
        """Returns the reference to a column in SQLAlchemy's notation, for a foreign key."""
        return ".".join(filter(None, (self.schema, self.table(table), column)))

    @property
    def lock(self) -> str:
        """The word that keeps the advisory locks of two installations in one database apart."""
        return ".".join(filter(None, (self.schema, self.prefix)))


DEFAULT_NAMES = TableNames()
