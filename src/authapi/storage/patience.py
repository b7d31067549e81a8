"""PostgreSQL connections that are given up in time, and that run no statement of other clients."""

from collections.abc import Awaitable, Callable
from secrets import randbits
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from authapi.errors import ConfigurationError
from authapi.storage.postgres.parameters import Parameters

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection


def impatient_connection() -> "type[AsyncConnection]":
    """The class of connections to open. Raises ConfigurationError without the extra `postgres`.

    A statement is cancelled when it took as long as the settings allow. psycopg would then ask the
    server to cancel it, and wait again for both: a server that is silent answers neither. The
    connection is dropped instead; the server's `statement_timeout` ends the statement.
    """
    try:
        from psycopg import AsyncConnection  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigurationError(
            "PostgreSQL needs the extra: pip install 'fastapi-authapi[postgres]'"
        ) from None

    class Impatient(AsyncConnection):
        async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109
            self.pgconn.finish()

    return Impatient


async def connected(
    parameters: Parameters, conninfo: str = "", **arguments: Any
) -> "AsyncConnection":
    """A connection with `parameters` in force, outside of a transaction (`autocommit`).

    Behind a pooler no statement is prepared: the session that prepared it may serve another client
    by now. Elsewhere the names of prepared statements begin at a random number, so that a session
    that is not ours has no statement under that name: it refuses (SQLSTATE 26000).
    """
    chosen = {**arguments, **parameters.arguments(), "autocommit": True}
    connection = await impatient_connection().connect(conninfo, **chosen)
    try:
        # With the look for a pooler in one statement: one round trip.
        statement = parameters.statement(connection.info.server_version)
        answer = await connection.execute(statement.encode(), prepare=False)
        row = await answer.fetchone()
        if row is not None and row[0] == connection.info.backend_pid:
            connection._prepared._prepared_idx = randbits(62)  # psycopg numbers from here
        else:
            connection.prepare_threshold = None
            theirs = parameters.statement_of_theirs()
            if theirs is not None:
                await connection.execute(theirs[0].encode(), theirs[1], prepare=False)
    except BaseException:
        await connection.close()
        raise
    return connection


def connector(parameters: Parameters) -> "Callable[..., Awaitable[AsyncConnection]]":
    """What opens connections of a pool, each with `parameters` in force."""
    impatient_connection()  # refuses where the extra is missing

    async def connect(conninfo: str = "", **arguments: Any) -> "AsyncConnection":
        connection = await connected(parameters, conninfo, **arguments)
        # psycopg would begin a transaction; that `autocommit` is given back costs no round trip.
        await connection.set_autocommit(False)
        return connection

    return connect


def set_on_connect(engine: Engine, parameters: Parameters, *, is_own: bool = True) -> None:
    """Put `parameters` in force on each new connection of `engine`, whose driver blocks.

    With `is_own`, for a database that holds our tables, to connect then raises ConfigurationError
    if its encoding is not UTF8: what it cannot write would be refused, row by row.
    """

    def prepare(connection: "Connection", _: object) -> None:
        try:
            connection.autocommit = True
            row = _put_in_force(connection, parameters)
            connection.autocommit = False
            if is_own and row[1] != "UTF8":
                raise _refused_encoding(connection.info.dbname, row[1])
        except BaseException:
            connection.close()
            raise

    # Before SQLAlchemy's own listener, which reads values.
    event.listen(engine, "connect", prepare, insert=True)


def _put_in_force(connection: "Connection", parameters: Parameters) -> tuple[int, str]:
    statement = parameters.statement(connection.info.server_version)
    row = connection.execute(statement.encode(), prepare=False).fetchone()
    process, encoding = (0, "") if row is None else row[:2]
    theirs = parameters.statement_of_theirs()
    if theirs is not None and process != connection.info.backend_pid:
        connection.execute(theirs[0].encode(), theirs[1], prepare=False)
    return process, encoding


def _refused_encoding(database: str, encoding: str) -> ConfigurationError:
    return ConfigurationError(
        f"the database {database} has the encoding {encoding}, and UTF8 is needed: make another"
        " one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
    )
