"""Translates errors of the database drivers into StorageUnavailable, and logs them.

An error becomes StorageUnavailable if the same request can succeed after an operator has fixed the
database; the response is then 503. An error that reports an invalid statement is left as it is; the
response is then 500.

If the connection is lost during COMMIT, the client cannot tell whether the transaction was
committed: its outcome is unknown. Such a call is not retried, and cached values of the changed rows
are removed.
"""

import logging
import sqlite3
from collections.abc import Sequence
from enum import Enum
from types import TracebackType

from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from authapi.domain.client import current_client
from authapi.domain.events import Event
from authapi.errors import StorageUnavailable

_log = logging.getLogger(__name__)

_STATES = frozenset(
    {
        "0A000",  # a prepared statement whose result has another type since the table was altered
        "25006",  # read only: on a standby, after a fail-over
        "25P03",  # the session exceeded the server's idle-in-transaction timeout
        "25P04",  # the transaction exceeded the server's transaction timeout
        "3D000",  # no such database
        "3F000",  # no such schema
        "42501",  # a privilege is missing, or a row-level security policy would filter
        "42703",  # no such column
        "42704",  # no such type or parameter
        "42804",  # a column has another type
        "42883",  # no such function, or none for the type of a column
        "42P01",  # no such table
        "XX000",  # internal error
        "XX001",  # corrupted table
        "XX002",  # corrupted index
    }
)
"""SQLSTATEs for which psycopg raises no OperationalError (PostgreSQL, Appendix A)."""
_EXPECTED = frozenset({"40001", "40P01", "55P03", "57014"})
"""Conflicts (`retry_on_conflict`), lock timeouts and statement timeouts. Load causes them, so the
log does not report them: an operator has nothing to fix."""

_REFERENCES = frozenset({"23001", "23503"})
"""Restrict violation, which PostgreSQL 18 reports for RESTRICT, and foreign key violation."""
_SQLITE_REFERENCES = frozenset(
    {sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, sqlite3.SQLITE_CONSTRAINT_TRIGGER}
)
"""SQLite reports RESTRICT as the error of a trigger."""

_SQLITE = frozenset(
    {
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR),
        *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL),
    }
)
_SQLITE_EXPECTED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class TransactionOutcome(Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"
    """COMMIT was sent, but its result was not received."""


class translate_driver_errors:  # noqa: N801  # used like a function: `with translate_driver_errors():`
    """A context manager that raises StorageUnavailable if the database is unavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, DBAPIError):
            if _is_unavailable(error):
                raise StorageUnavailable(*_report(error)) from error
        elif isinstance(error, PoolTimeout | TimeoutError):
            raise StorageUnavailable from error


def outcome_of_failed_commit(error: BaseException) -> TransactionOutcome:
    """Returns the outcome of a transaction whose commit raised `error`."""
    if not isinstance(error, DBAPIError):
        # SQLAlchemy raises its own errors before it sends COMMIT. A timeout or a cancellation comes
        # after that.
        return (
            TransactionOutcome.ROLLED_BACK
            if isinstance(error, SQLAlchemyError)
            else TransactionOutcome.UNKNOWN
        )
    if isinstance(error.orig, sqlite3.Error):
        return TransactionOutcome.ROLLED_BACK
    # Severity ERROR means that the transaction was aborted. FATAL ends the session, before the
    # commit or after it (PostgreSQL, 54.8: field V, which is never localized).
    diagnosis = getattr(error.orig, "diag", None)
    severity = getattr(diagnosis, "severity_nonlocalized", None)
    return TransactionOutcome.ROLLED_BACK if severity == "ERROR" else TransactionOutcome.UNKNOWN


def sqlstate(error: DBAPIError) -> str | None:
    """Returns the SQLSTATE of a PostgreSQL error, or None if the server sent none."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def reason(error: DBAPIError) -> str:
    """Returns the message of the driver in one line, without values of rows.

    Only the primary message of PostgreSQL is used, because DETAIL and CONTEXT contain values.
    """
    diagnosis = getattr(error.orig, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    return " ".join(str(primary or error.orig).split())


def is_reference_violation(error: IntegrityError) -> bool:
    """Returns whether a foreign key refused the statement or the commit."""
    state = sqlstate(error)
    if state is not None:
        return state in _REFERENCES
    return getattr(error.orig, "sqlite_errorcode", None) in _SQLITE_REFERENCES


def _is_unavailable(error: DBAPIError) -> bool:
    if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
        return True
    state = sqlstate(error)
    if state is not None:
        return state in _STATES
    return _sqlite_code(error) in _SQLITE


def _report(error: DBAPIError) -> tuple[str, ...]:
    """Logs an error that an operator has to fix, and returns its text, or nothing.

    A command prints the text.
    """
    state, request = sqlstate(error), current_client().request_id
    if state in _EXPECTED or _sqlite_code(error) in _SQLITE_EXPECTED:
        return ()
    text = f"the database is not available: {reason(error)}"
    # A command configures no log handler. Logging there would print the error twice.
    if request is not None or _log.hasHandlers():
        _log.error(text, extra={"sqlstate": state, "request_id": request})
    return (text,)


def _sqlite_code(error: DBAPIError) -> int | None:
    # The lowest byte of an extended result code is the primary one (SQLite, Result Codes).
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def log_unknown_outcome(events: Sequence[Event]) -> None:
    """Logs that the outcome of a transaction with these events is not known."""
    # The events are in the table exactly if the transaction was committed: an operator can look up
    # their ids.
    _log.error(
        "the response to COMMIT was lost: the transaction may or may not have been committed",
        extra={
            "request_id": current_client().request_id,
            "events": [f"{event.type.value} {event.id}" for event in events] or None,
        },
    )
