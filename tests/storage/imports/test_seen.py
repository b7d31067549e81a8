"""Lines that an import has read: found by id and by address, without growing memory."""

import sqlite3

import pytest

from authapi.errors import ConfigurationError
from authapi.storage.imports.seen import SeenLine, SeenLines


def test_the_first_line_with_an_id_or_an_address_is_returned() -> None:
    with SeenLines() as seen:
        first, second = SeenLine("1", "a@example.com", 1), SeenLine("2", "b@example.com", 2)
        assert seen.add(first) is None
        assert seen.add(second) is None
        assert seen.add(SeenLine("1", "c@example.com", 3)) == first
        assert seen.add(SeenLine("3", "b@example.com", 4)) == second
        assert seen.add(SeenLine("2", "a@example.com", 5)) == first
        assert seen.add(SeenLine("3", "c@example.com", 6)) is None
        assert seen.add(SeenLine("01", "1@example.com", 7)) is None


def test_lines_of_one_import_are_unknown_to_another() -> None:
    line = SeenLine("1", "a@example.com", 1)
    with SeenLines() as one, SeenLines() as other:
        assert (one.add(line), other.add(line)) == (None, None)


def test_a_full_disk_is_one_error() -> None:
    with SeenLines() as seen:
        seen._connection.execute("PRAGMA max_page_count = 8")
        lines = (SeenLine(f"{n}", f"{n}@example.com", n) for n in range(10_000))
        with pytest.raises(ConfigurationError, match="cannot compare the ids of the lines: "):
            list(map(seen.add, lines))
    with pytest.raises(sqlite3.ProgrammingError):
        seen._connection.execute("SELECT 1")
