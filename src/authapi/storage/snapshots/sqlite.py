"""A copy of a SQLite database, to which a test database returns before each test."""

import sqlite3
from contextlib import closing
from pathlib import Path

from authapi.errors import StorageUnavailable

_TIMEOUT = 5.0
"""Seconds that `restore` waits for a transaction of a test."""


class SQLiteSnapshot:
    """The tables and rows that the database at `path` had when this was created, in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(path)) as source:
            source.backup(self._copy)

    def restore(self) -> None:
        """Replaces the content of the database by that of the snapshot.

        An application may have the database open. Raises StorageUnavailable after five seconds of
        waiting for a transaction of a test.
        """
        with closing(sqlite3.connect(self._path, timeout=_TIMEOUT)) as target:
            target.execute("PRAGMA synchronous = OFF")  # the database of a test may be lost
            try:
                # `backup` itself would retry for ever.
                target.execute("BEGIN EXCLUSIVE").connection.rollback()
                self._copy.backup(target)
            except sqlite3.OperationalError as error:
                raise StorageUnavailable(f"the database of the test is in use: {error}") from error

    def close(self) -> None:
        """Frees the memory of the copy."""
        self._copy.close()
