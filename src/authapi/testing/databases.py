"""A database for tests, which is migrated once and then clean before each test in milliseconds."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any, Protocol, Self
from urllib.parse import quote

from authapi.settings import Settings
from authapi.storage import migrations
from authapi.storage.names import TableNames
from authapi.storage.snapshots.postgres import PostgresSnapshot, create_database, drop_database
from authapi.storage.snapshots.sqlite import SQLiteSnapshot


class _Snapshot(Protocol):
    def restore(self) -> None: ...
    def close(self) -> None: ...


class CleanDatabase:
    """A new database: SQLite in a temporary folder, or one on a PostgreSQL server.

    `server` is the URL of any database of the PostgreSQL server, with a role that may create
    databases. `prepare` gets the URL of the new database, with the tables of authapi in it, and
    creates those of the application; the rows that it adds are there in each test. `table_prefix`
    and `database_schema` are the settings of these names.

    The tests own this database: no other has its name, and `close` removes it. Use the object as a
    context manager, or call `close`. The constructor raises StorageUnavailable if the server does
    not answer, ConfigurationError if the role may not create databases, and what `prepare` raises.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        prepare: Callable[[str], object] | None = None,
        table_prefix: str | None = None,
        database_schema: str | None = None,
    ) -> None:
        given = {"table_prefix": table_prefix, "database_schema": database_schema}
        self._names = {name: value for name, value in given.items() if value is not None}
        with ExitStack() as stack:
            folder = TemporaryDirectory(prefix="authapi-test-", ignore_cleanup_errors=True)
            self._folder = Path(stack.enter_context(folder))
            if server is None:
                self.url = f"sqlite:///{quote(os.fsencode(self._folder / 'test.db'))}"
            else:
                name = f"authapi_test_{os.getpid()}_{token_hex(4)}"
                self.url = create_database(server, name)
                stack.callback(drop_database, server, name)
            migrations.upgrade(self.url, names=TableNames.of(self.settings()))
            if prepare is not None:
                prepare(self.url)
            self._snapshot: _Snapshot = (
                SQLiteSnapshot(self._folder / "test.db")
                if server is None
                else PostgresSnapshot(self.url)
            )
            stack.callback(self._snapshot.close)
            self._resources = stack.pop_all()

    def clean(self) -> None:
        """Restores the rows that the database had after `prepare`.

        An application that is running keeps what it has cached of the old rows, so start it after
        this. Raises StorageUnavailable if a transaction holds rows for more than five seconds.
        """
        self._snapshot.restore()
        # This restore is wanted: the next start must not warn of it.
        for remembered in (self._folder / "data").glob("newest-event-*"):
            remembered.unlink()

    def settings(self, **changes: Any) -> Settings:
        """Returns settings for tests on this database, which read no environment.

        They hash passwords at the lowest cost and accept reserved addresses. `changes` are further
        settings. Raises as `Settings`.
        """
        return Settings.isolated(**{**self._values, "migrate": False, **changes})

    @property
    def environment(self) -> Mapping[str, str]:
        """The same settings as variables, for an application that reads them when it is imported.

        Set them before the import: `os.environ.update(database.environment)`.
        """
        values = {**self._values, "migrate": False}
        return {f"AUTHAPI_{name.upper()}": _text(value) for name, value in values.items()}

    @property
    def _values(self) -> dict[str, object]:
        return {
            "database_url": self.url,
            "data_dir": self._folder / "data",
            "cheap_hashes": True,
            "allow_reserved_addresses": True,
            **self._names,
        }

    def close(self) -> None:
        """Removes the database. May be called several times."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
