"""An engine that the application has created, and that authapi uses without changing it.

authapi takes connections from the pool of the application, through an engine of its own. The
listeners and options of that engine concern the connections of authapi only. What a connection
needs for one transaction is set at its begin, and reset before the connection returns to the pool.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import Pool

from authapi.errors import ConfigurationError
from authapi.storage.urls import parse_url

_DRIVERS = {"postgresql": "psycopg", "sqlite": "aiosqlite"}
_PREVIOUS = "authapi_previous_pragmas"
"""The key in the `info` of a connection that holds the pragmas of the application."""


class _Engine(Engine):
    """An engine of ours on the pool of `theirs`, whichever that has at the moment."""

    def __init__(self, theirs: Engine) -> None:
        self._theirs = theirs
        super().__init__(theirs.pool, theirs.dialect, theirs.url, hide_parameters=True)

    @property
    def pool(self) -> Pool:
        return self._theirs.pool

    @pool.setter
    def pool(self, _: Pool) -> None:
        return None


class ApplicationEngine:
    """What `Database` needs of an engine of the application: a reader, a writer, and their limits.

    `timeout`, in seconds, bounds a statement and the wait for a lock, `max_idle` the idle time of a
    transaction. The constructor raises ConfigurationError for a driver that authapi cannot use.
    """

    def __init__(self, engine: AsyncEngine, *, timeout: float, max_idle: float) -> None:
        check_engine(engine)
        self.theirs = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        milliseconds = int(timeout * 1000)
        self._pragmas = {
            "busy_timeout": milliseconds,
            "foreign_keys": 1,
            "synchronous": 2,  # FULL: a committed write survives a power failure
        }
        own = AsyncEngine(_Engine(engine.sync_engine))
        if self._is_sqlite:
            # A statement needs no transaction there. The isolation level AUTOCOMMIT would reset the
            # mode of the driver to its default afterwards, which the application may have changed.
            self.reader, self.writer = own, own.execution_options(authapi_write=True)
            event.listen(self.writer.sync_engine, "begin", self._begin_immediate)
            return
        self.reader = own.execution_options(isolation_level="AUTOCOMMIT")
        # A statement after an advisory lock has to see what the previous holder committed.
        self.writer = own.execution_options(isolation_level="READ COMMITTED")
        limits = sa.text(_limits(milliseconds, int(max_idle * 1000)))

        def set_limits(connection: Connection) -> None:
            connection.execute(limits)

        event.listen(self.writer.sync_engine, "begin", set_limits)

    async def restore(self, connection: AsyncConnection) -> None:
        """Resets what a transaction has set. Closes the connection if that fails."""
        if not self._is_sqlite or connection.closed or connection.invalidated:
            return
        try:
            raw = await connection.get_raw_connection()
            previous: dict[str, int] = raw.info.pop(_PREVIOUS, {})
            # By the driver: SQLAlchemy would begin another transaction.
            for name, value in previous.items():
                await raw.driver_connection.execute(f"PRAGMA {name} = {value}")  # type: ignore[union-attr]  # aiosqlite
        except (SQLAlchemyError, sqlite3.Error):
            with suppress(SQLAlchemyError):
                await connection.invalidate()

    def _begin_immediate(self, connection: Connection) -> None:
        # Some of these pragmas cannot change inside a transaction.
        previous: dict[str, int] = {}
        connection.info[_PREVIOUS] = previous
        for name, wanted in self._pragmas.items():
            value = connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            if value != wanted:
                previous[name] = value
                connection.exec_driver_sql(f"PRAGMA {name} = {wanted}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    async def limitations(self) -> Sequence[str]:
        """Returns what authapi cannot set on connections of the application, as clauses.

        Raises ConfigurationError if a transaction of authapi cannot work on them, and the errors of
        SQLAlchemy.
        """
        async with self.reader.connect() as connection:
            if self._is_sqlite:
                return await _limitations_of_sqlite(connection)
            timeout = await connection.scalar(
                sa.text("SELECT current_setting('statement_timeout')")
            )
        if timeout == "0":
            return ["the server does not end a single read (set statement_timeout on the engine)"]
        return []


def check_engine(engine: AsyncEngine) -> None:
    """Checks that authapi can use `engine`. Raises ConfigurationError."""
    if not isinstance(engine, AsyncEngine):
        raise ConfigurationError("engine= takes an AsyncEngine of create_async_engine()")
    check_driver(engine.dialect.name, engine.dialect.driver)


def check_driver(name: str, driver: str) -> None:
    """Checks that authapi can use a driver of SQLAlchemy. Raises ConfigurationError."""
    if _DRIVERS.get(name) != driver:
        raise ConfigurationError(
            "engine= needs the driver postgresql+psycopg or sqlite+aiosqlite, and this engine has"
            f" {name}+{driver}"
        )


def url_of(engine: AsyncEngine) -> str:
    """Returns the database URL of `engine` for migrations and commands, with its password.

    Raises ConfigurationError if authapi cannot use the engine or its URL, such as that of an
    in-memory database, which no second connection can open.
    """
    check_engine(engine)
    url = engine.url
    if engine.dialect.name == "sqlite":
        text = f"sqlite:///{quote(url.database or '')}"
        if url.query:
            raise ConfigurationError("engine= must open a SQLite file by its path, without options")
    else:
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    parse_url(text)
    return text


def check_same_database(engine: AsyncEngine, url: str) -> None:
    """Checks that `engine` and the database URL of the settings name the same database.

    Their hosts may differ, because migrations and notifications must not pass a pooler. Raises
    ConfigurationError.
    """
    check_engine(engine)
    configured, own = parse_url(url), engine.url
    is_same = configured.get_backend_name() == own.get_backend_name()
    if is_same and own.get_backend_name() == "sqlite":
        is_same = Path(configured.database or "").resolve() == Path(own.database or "").resolve()
    elif is_same and configured.database and own.database:
        is_same = configured.database == own.database
    if not is_same:
        raise ConfigurationError("engine= and AUTHAPI_DATABASE_URL name different databases")


class SiblingEngine(AsyncEngine):
    """An engine of ours that connects as an engine of the application does."""


def sibling(engine: AsyncEngine) -> SiblingEngine:
    """Returns an engine with a pool of its own, whose connections are made as those of `engine`.

    A pool of asynchronous connections belongs to one event loop, and to one process.
    """
    theirs = engine.sync_engine
    return SiblingEngine(
        Engine(theirs.pool.recreate(), theirs.dialect, theirs.url, hide_parameters=True)
    )


def _limits(timeout: int, max_idle: int) -> str:
    # The third argument of set_config makes each of them local to the transaction.
    values = {
        "statement_timeout": timeout,
        "lock_timeout": timeout,
        "idle_in_transaction_session_timeout": max_idle,
        "row_security": "off",
    }
    calls = [f"set_config('{name}', '{value}', true)" for name, value in values.items()]
    durable = (
        "set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
        " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
    )
    return f"SELECT {', '.join([*calls, durable])}"


async def _limitations_of_sqlite(connection: AsyncConnection) -> Sequence[str]:
    driver = (await connection.get_raw_connection()).driver_connection
    # With `autocommit=False` (Python 3.12), the driver itself keeps a deferred transaction open.
    if getattr(getattr(driver, "_conn", None), "autocommit", -1) is False:
        raise ConfigurationError(
            "engine= must not set autocommit=False on SQLite: authapi sends BEGIN IMMEDIATE itself"
        )
    mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one()
    if mode != "wal":
        return [f"reads and writes wait for one another (journal_mode is {mode}, and not wal)"]
    return []
