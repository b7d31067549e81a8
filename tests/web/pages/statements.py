"""Counts the statements that requests send to the database."""

from contextlib import AbstractContextManager

from authapi.storage import Database
from authapi.storage.inspection import record_statements

_NOT_STATEMENTS = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SAVEPOINT", "RELEASE")


def counting(database: Database) -> AbstractContextManager[list[str]]:
    """Collects the statements of requests within the block.

    Those of periodic tasks are left out, and those that open and end transactions.
    """
    return record_statements(database, without=_NOT_STATEMENTS)
