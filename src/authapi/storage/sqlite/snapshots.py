"""A copy of a SQLite database, to which a test database returns before each test."""

import sqlite3
from contextlib import closing
from pathlib import Path


class SQLiteSnapshot:
    """The tables and rows that the database at `path` had when this was created.

    `restore` brings them back, also while an application has the database open. It raises
    sqlite3.OperationalError if another connection is in a transaction for five seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(path)) as source:
            source.backup(self._memory)

    def restore(self) -> None:
        """Replaces the content of the database by that of the snapshot."""
        with closing(sqlite3.connect(self._path, timeout=5)) as target:
            target.execute("PRAGMA synchronous = OFF")  # the database of a test may be lost
            self._memory.backup(target)

    def close(self) -> None:
        """Frees the memory of the snapshot."""
        self._memory.close()
