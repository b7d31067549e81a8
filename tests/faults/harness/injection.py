"""Makes a chosen statement of a request fail, in the drivers of both databases.

Only statements of the task that uses a `Plan`, and of tasks that it starts, count: background work
of the service is left alone. The preparation of a new connection does not count, because it depends
on what happened before; tests of lost databases cover it.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import aiosqlite
import psycopg
import pytest

Moment = Literal["before", "after"]
COMMIT = "COMMIT"
_PREPARATION = (
    *("SELECT pg_backend_pid()", ";"),  # the last is the ping of a connection from the pool
    *("PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA foreign_keys"),
)
"""How the statements begin that prepare a connection."""


@dataclass(eq=False)
class Plan:
    """Which statement fails, and what was sent."""

    at: int = 0
    """The number of the statement, from 1 on; 0 for none."""
    moment: Moment = "before"
    """Whether the database refuses the statement, or carries it out and the answer is lost."""
    statements: list[str] = field(default_factory=list)
    """Every statement, also COMMIT."""
    has_failed: bool = False

    def fails(self, moment: Moment) -> bool:
        """Whether the statement that was counted last fails at this moment."""
        if self.at != len(self.statements) or moment != self.moment or self.has_failed:
            return False
        self.has_failed = True
        return True


_PLAN: ContextVar[Plan | None] = ContextVar("plan", default=None)


@contextmanager
def following(plan: Plan) -> Iterator[Plan]:
    """The statements of the block follow the plan."""
    token = _PLAN.set(plan)
    try:
        yield plan
    finally:
        _PLAN.reset(token)


@contextmanager
def injecting() -> Iterator[None]:
    """Statements in the block can fail."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, lost in (
            (psycopg.AsyncCursor, "execute", _lose_postgres_cursor),
            (psycopg.AsyncCursor, "executemany", _lose_postgres_cursor),
            (psycopg.AsyncConnection, "commit", _lose_postgres),
            (aiosqlite.Cursor, "execute", _lose_sqlite),
            (aiosqlite.Cursor, "executemany", _lose_sqlite),
            (aiosqlite.Connection, "commit", _delay_sqlite),
        ):
            refuse = _refuse_postgres if issubclass(owner, _POSTGRES) else _refuse_sqlite
            patch.setattr(owner, name, _failing(getattr(owner, name), refuse, lost))
        yield


_POSTGRES = (psycopg.AsyncCursor, psycopg.AsyncConnection)


def _failing(
    call: Callable[..., Awaitable[Any]],
    refuse: Callable[[], Exception],
    lose: Callable[[Any], Exception],
) -> Callable[..., Awaitable[Any]]:
    async def run(self: Any, *arguments: Any, **options: Any) -> Any:
        plan = _PLAN.get()
        if plan is None:
            return await call(self, *arguments, **options)
        statement = _text(arguments[0]) if arguments else COMMIT
        if statement.startswith(_PREPARATION):
            return await call(self, *arguments, **options)
        plan.statements.append(statement)
        if plan.fails("before"):
            raise refuse()
        result = await call(self, *arguments, **options)
        if plan.fails("after"):
            raise lose(self)
        return result

    return run


def _text(statement: object) -> str:
    text = statement.decode() if isinstance(statement, bytes) else str(statement)
    return text.rstrip("0123456789") if text.startswith("PRAGMA user_version =") else text


def _refuse_postgres() -> Exception:
    return psycopg.errors.DiskFull("injected: no space left on device")


def _refuse_sqlite() -> Exception:
    error = sqlite3.OperationalError("injected: database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def _lose_postgres(connection: psycopg.AsyncConnection[Any]) -> Exception:
    connection.pgconn.finish()
    return psycopg.OperationalError("injected: server closed the connection unexpectedly")


def _lose_postgres_cursor(cursor: psycopg.AsyncCursor[Any]) -> Exception:
    return _lose_postgres(cursor.connection)


def _lose_sqlite(_: object) -> Exception:
    error = sqlite3.OperationalError("injected: disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


def _delay_sqlite(_: object) -> Exception:
    # A COMMIT of SQLite that was carried out reports no error. Its answer can be late only.
    return TimeoutError("injected: the commit took too long")
