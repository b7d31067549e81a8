"""What became of a transaction: committed, undone, or unknown because the answer to COMMIT is lost.

A client cannot tell a server that died before the commit from one that died after it. What was
changed may then be in the tables: a call that ended so is never run again by itself, and what is
remembered of the rows is dropped.
"""

import sqlite3
from enum import Enum

from sqlalchemy.exc import DBAPIError, SQLAlchemyError


class Outcome(Enum):
    """How a transaction has ended."""

    COMMITTED = "committed"
    UNDONE = "undone"
    UNKNOWN = "unknown"
    """COMMIT was sent, and no answer says what came of it."""


def outcome_after(error: BaseException) -> Outcome:
    """The outcome of a transaction whose commit has raised `error`."""
    if not isinstance(error, DBAPIError):
        # SQLAlchemy refuses before anything is sent. A time-out or a cancellation comes later.
        return Outcome.UNDONE if isinstance(error, SQLAlchemyError) else Outcome.UNKNOWN
    if isinstance(error.orig, sqlite3.Error):
        return Outcome.UNDONE
    # An answer of this severity aborts the transaction. FATAL ends the session, before the commit
    # or after it (PostgreSQL, 54.8: field V, which is not translated).
    diagnosis = getattr(error.orig, "diag", None)
    severity = getattr(diagnosis, "severity_nonlocalized", None)
    return Outcome.UNDONE if severity == "ERROR" else Outcome.UNKNOWN
