"""Which errors of a driver mean that the database cannot do its part, and what the log says then.

The same request may succeed once an operator has mended that: it is answered 503. An error that
says that a statement of ours is wrong stays what it is, and is answered 500.

A client cannot tell a server that died before a commit from one that died after it: the outcome of
such a transaction is unknown. Its changes may be in the tables, so a call that ended so is not run
again, and what is remembered of the rows is dropped.
"""

import logging
import sqlite3
from enum import Enum
from types import TracebackType

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from authapi.errors import StorageUnavailable
from authapi.identity import current_client

_log = logging.getLogger(__name__)

_STATES = frozenset(
    {
        "0A000",  # a prepared statement whose result has another type since the table was altered
        "25006",  # read only: on a standby, after a fail-over
        "25P03",  # the session was idle in a transaction for longer than the server allows
        "25P04",  # the transaction took longer than the server allows
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
"""Conflicts (`storage.conflicts`), locks and time-outs come from load: there is nothing to mend."""

_SQLITE = frozenset(
    {
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR),
        *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL),
    }
)
_SQLITE_EXPECTED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class Outcome(Enum):
    """How a transaction has ended."""

    COMMITTED = "committed"
    UNDONE = "undone"
    UNKNOWN = "unknown"
    """COMMIT was sent, and no answer says what came of it."""


class translated:  # noqa: N801  # reads as a verb at its places of use
    """Turns what the driver raises when the database cannot do its part into StorageUnavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, DBAPIError):
            if _is_unavailable(error):
                raise StorageUnavailable(*_told(error)) from error
        elif isinstance(error, PoolTimeout | TimeoutError):
            raise StorageUnavailable from error


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


def sqlstate(error: DBAPIError) -> str | None:
    """The SQLSTATE of an error of PostgreSQL; None if the server did not say one."""
    found: str | None = getattr(error.orig, "sqlstate", None)
    return found


def reason(error: DBAPIError) -> str:
    """What the driver says, in one line, without the values of rows.

    Of PostgreSQL's message only the first part: DETAIL and CONTEXT repeat values.
    """
    diagnosis = getattr(error.orig, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    return " ".join(str(primary or error.orig).split())


def _is_unavailable(error: DBAPIError) -> bool:
    if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
        return True
    state = sqlstate(error)
    if state is not None:
        return state in _STATES
    return _sqlite_code(error) in _SQLITE


def _told(error: DBAPIError) -> tuple[str, ...]:
    """What an operator has to know: the log is told, and the command line prints it."""
    state, request = sqlstate(error), current_client().request_id
    if state in _EXPECTED or _sqlite_code(error) in _SQLITE_EXPECTED:
        return ()
    text = f"the database is not available: {reason(error)}"
    # A command has no log, and says it itself; without handlers it would stand there twice.
    if request is not None or _log.hasHandlers():
        _log.error(text, extra={"sqlstate": state, "request_id": request})
    return (text,)


def _sqlite_code(error: DBAPIError) -> int | None:
    # The primary result code is in the lowest byte of the extended one (SQLite, Result Codes).
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
