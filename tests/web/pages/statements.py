"""Counts the statements that requests send to the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from authapi.storage import Database
from tests.storage.rows import in_background

_NOT_STATEMENTS = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SAVEPOINT", "RELEASE")


@contextmanager
def counting(database: Database) -> Iterator[list[str]]:
    """Collects the statements of requests within the block.

    Those of periodic tasks are left out, and those that open and end transactions.
    """
    found: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not in_background() and not statement.upper().startswith(_NOT_STATEMENTS):
            found.append(statement)

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)
