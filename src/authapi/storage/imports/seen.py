"""The ids and addresses of the lines that an import has read."""

import sqlite3
from dataclasses import dataclass
from typing import Self

from authapi.errors import ConfigurationError

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE seen (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, line INTEGER NOT NULL);
BEGIN;
"""


@dataclass(frozen=True, slots=True)
class SeenLine:
    """The id, the canonical address and the number of a line."""

    id: str
    email: str
    line: int


class SeenLines:
    """Finds two lines with one id or one address. Close it, or use it in a `with` statement.

    A temporary SQLite database without a name keeps the lines, so that memory use does not depend
    on their number. SQLite removes it when it is closed, or when the process ends.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the temporary database."""
        self._connection.close()

    def add(self, line: SeenLine) -> SeenLine | None:
        """Adds `line`, or returns the first line that has its id or its address.

        Raises ConfigurationError if the temporary folder has no space.
        """
        values = (line.id, line.email, line.line)
        try:
            added = self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", values)
            if added.rowcount == 1:
                return None
            found = self._connection.execute(
                "SELECT id, email, line FROM seen WHERE id = ? OR email = ? ORDER BY line LIMIT 1",
                values[:2],
            )
            return SeenLine(*found.fetchone())
        except sqlite3.Error as error:
            raise ConfigurationError(f"cannot compare the ids of the lines: {error}") from None
