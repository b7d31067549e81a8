"""The contents of a database: read, compared and put back by a connection of its own."""

import json
import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from authapi.storage.models import tables_of
from authapi.storage.names import DEFAULT_NAMES

_TABLES: Mapping[str, Sequence[str]] = {
    table.name: [column.name for column in table.primary_key]
    for table in tables_of(DEFAULT_NAMES).users.metadata.sorted_tables
}
"""The columns of the primary key of each table."""
Contents = Mapping[str, frozenset[Any]]
"""The rows of each table, as its observer reads them."""
Change = Counter[str]
"""What a request changes, without the values: rows that it adds and removes, and columns."""


class Observer(ABC):
    """A connection that the service does not know of."""

    @abstractmethod
    def read(self) -> Contents:
        """Returns all rows."""

    @abstractmethod
    def _values(self, table: str, row: Any) -> Mapping[str, Any]:
        """The values of a row by the names of their columns."""

    @abstractmethod
    def _replace(self, now: Contents, wanted: Contents) -> None:
        """Removes and adds rows, without foreign keys."""

    def restore(self, wanted: Contents) -> None:
        """Makes `wanted` the contents of the database again."""
        self._replace(self.read(), wanted)

    def change(self, before: Contents, after: Contents) -> Change:
        """Returns what has changed."""
        found = Change()
        for name in _TABLES:
            old, new = (
                {self._key(name, row): self._values(name, row) for row in rows}
                for rows in (before[name] - after[name], after[name] - before[name])
            )
            for key in old.keys() | new.keys():
                if key not in new:
                    found[f"{name} removed"] += 1
                elif key not in old:
                    kind = f" {new[key]['type']}" if name.endswith("_events") else ""
                    found[f"{name}{kind} added"] += 1
                else:
                    columns = [it for it in old[key] if old[key][it] != new[key][it]]
                    found[f"{name} changed: {', '.join(sorted(columns))}"] += 1
        return found

    def _key(self, name: str, row: Any) -> tuple[str, ...]:
        values = self._values(name, row)
        return tuple(str(values[key]) for key in _TABLES[name])


@contextmanager
def observing(url: str) -> Iterator[Observer]:
    """Opens a connection to the database."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        connection = sqlite3.connect(parsed.database or "", timeout=5, isolation_level=None)
        try:
            yield _SQLite(connection)
        finally:
            connection.close()
        return
    with psycopg.connect(url, autocommit=True) as postgres:
        # A lock that the service has kept is a failure, not a wait.
        postgres.execute("SET lock_timeout = '5s'")
        postgres.execute("SET session_replication_role = replica")  # without foreign keys
        yield _Postgres(postgres)


class _SQLite(Observer):
    """Its rows are tuples."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._columns = {
            name: [row[1] for row in self._run(f"PRAGMA table_info({name})")] for name in _TABLES
        }

    def read(self) -> Contents:
        return {
            name: frozenset(self._run(f"SELECT * FROM {name}")) for name in _TABLES
        }  # our names

    def _values(self, table: str, row: Any) -> Mapping[str, Any]:
        return dict(zip(self._columns[table], row, strict=True))

    def _replace(self, now: Contents, wanted: Contents) -> None:
        self._run("BEGIN IMMEDIATE")
        for name, keys in _TABLES.items():
            where = " AND ".join(f"{key} = ?" for key in keys)
            for row in now[name] - wanted[name]:
                values = self._values(name, row)
                self._run(f"DELETE FROM {name} WHERE {where}", [values[key] for key in keys])
            for row in wanted[name] - now[name]:
                marks = ", ".join("?" for _ in row)
                self._run(f"INSERT INTO {name} VALUES ({marks})", row)
        self._run("COMMIT")


class _Postgres(Observer):
    """Its rows are the texts of records: JSON would not tell a missing value from a JSON null."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        parts = [f"SELECT '{name}', t::text FROM {name} t" for name in _TABLES]
        self._query = " UNION ALL ".join(parts).encode()

    def read(self) -> Contents:
        found: dict[str, set[str]] = {name: set() for name in _TABLES}
        for name, row in self._connection.execute(self._query, prepare=True):
            found[name].add(row)
        return {name: frozenset(rows) for name, rows in found.items()}

    def _values(self, table: str, row: Any) -> Mapping[str, Any]:
        statement = f"SELECT to_jsonb(%s::{table})::text"
        [[text]] = self._connection.execute(statement.encode(), [row], prepare=True)
        found: Mapping[str, Any] = json.loads(text)
        return found

    def _replace(self, now: Contents, wanted: Contents) -> None:
        with self._connection.transaction():
            for name, keys in _TABLES.items():
                key = ", ".join(keys)
                same = ", ".join(f"(%s::{name}).{column}" for column in keys)
                for row in now[name] - wanted[name]:
                    self._run(f"DELETE FROM {name} WHERE ({key}) = ({same})", [row] * len(keys))
                for row in wanted[name] - now[name]:
                    self._run(f"INSERT INTO {name} SELECT (%s::{name}).*", [row])

    def _run(self, statement: str, values: Sequence[str]) -> None:
        self._connection.execute(statement.encode(), values, prepare=True)
