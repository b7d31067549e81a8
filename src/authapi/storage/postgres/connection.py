"""PostgreSQL connections: aborted on cancellation, with session parameters, safe behind poolers."""

import asyncio
from collections.abc import Awaitable, Callable
from secrets import randbits
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine, ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from authapi.errors import ConfigurationError
from authapi.storage.postgres.hosts import SILENCE, Connecting, connect_first, hosts_of
from authapi.storage.postgres.servers import TIMELINE, ReachedServer, Timeline
from authapi.storage.postgres.session_parameters import SessionParameters

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection
    from psycopg.abc import RV, PQGen


NAMED: Final = {"fallback_application_name": "authapi"}
"""The name of a connection for operators, if neither the URL nor `PGAPPNAME` has one."""
STALE_STATEMENTS = frozenset({"26000", "0A000"})
"""SQLSTATEs of a prepared statement that is unknown, or whose table was altered since."""
_UNSUPPORTED = "unsupported startup parameter"
"""PgBouncer's error if it does not accept `options`, or a name in it."""
_WAKE_UP_INTERVAL = 0.1
"""Seconds, the default of psycopg's connections. `wait_async` without it waits in a busy loop."""


def _never() -> bool:
    return False


def aborting_connection_class(silence: float | None = None) -> "type[AsyncConnection]":
    """Returns a connection class that drops the connection when a statement is cancelled.

    A statement is cancelled when it exceeds the timeout of the settings. psycopg would then ask the
    server to cancel it, and wait for both responses, which a silent server does not send. The
    `statement_timeout` of the server ends the statement.

    `silence` bounds each wait for the server, in seconds. It is longer than the `statement_timeout`
    of the server, which a server that is frozen, or whose network is gone, cannot enforce: the
    statement raises OperationalError, and the connection is closed.

    Raises ConfigurationError without the extra `postgres`.
    """
    try:
        from psycopg import AsyncConnection, OperationalError, pq, waiting  # noqa: PLC0415  # extra
    except ImportError:
        raise ConfigurationError(
            "PostgreSQL needs the extra: pip install 'fastapi-authapi[postgres]'"
        ) from None

    class AbortingConnection(AsyncConnection):
        is_outdated: Callable[[], bool] = staticmethod(_never)

        async def wait(  # type: ignore[override]  # versions of psycopg differ in its other arguments
            self, gen: "PQGen[RV]", interval: float = _WAKE_UP_INTERVAL, **options: Any
        ) -> "RV":
            # psycopg's own method would also log each cancellation as a warning.
            try:
                async with asyncio.timeout(silence):
                    return await waiting.wait_async(gen, self.pgconn.socket, interval, **options)
            except TimeoutError:
                self.pgconn.finish()
                raise OperationalError("the server does not respond") from None
            except asyncio.CancelledError:
                if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                    self.pgconn.finish()
                raise

    return AbortingConnection


async def connect(
    parameters: SessionParameters,
    conninfo: str = "",
    *,
    reached: ReachedServer | None = None,
    silence: float | None = None,
    **arguments: Any,
) -> "AsyncConnection":
    """Opens a connection in autocommit mode and sets `parameters` on it.

    Behind a pooler, no statement is prepared: the session that prepared it may serve another client
    by now. Without a pooler, the names of prepared statements start at a random number. A statement
    that reaches a session of another client then fails there with SQLSTATE 26000, instead of
    running a statement of that client.

    `reached` is set to the server of the connection. Of several hosts, one with an older timeline
    than `reached` has seen counts as one that refuses. `silence` is that of
    `aborting_connection_class`.

    Raises ConfigurationError without the extra `postgres`, psycopg.Error if the server refuses the
    connection or a parameter, OSError if the server cannot be reached.
    """
    merged = {**NAMED, **arguments, **parameters.arguments(), "autocommit": True}
    connecting: Connecting = aborting_connection_class(silence).connect
    if reached is not None and len(hosts_of(merged)) > 1:
        connecting = _to_newest_timeline(connecting, reached)
    try:
        connection = await connect_first(connecting, conninfo, merged)
    except Exception as error:
        if not refuses_options(error):
            raise
        # What `options` would have set, the statements below set.
        connection = await connect_first(connecting, conninfo, {**merged, "options": ""})
    try:
        # One statement sets the parameters and detects a pooler: one round trip.
        statement = parameters.statement(connection.info.server_version)
        result = await connection.execute(statement.encode(), prepare=False)
        row = await result.fetchone()
        if row is not None and reached is not None:
            reached.started = row[2]
        if row is not None and row[0] == connection.info.backend_pid:
            connection._prepared._prepared_idx = randbits(62)  # psycopg numbers from here
        else:
            connection.prepare_threshold = None
            url_statement = parameters.url_statement()
            if url_statement is not None:
                await connection.execute(url_statement[0].encode(), url_statement[1], prepare=False)
    except BaseException:
        await connection.close()
        raise
    return connection


def _to_newest_timeline(connecting: Connecting, reached: ReachedServer) -> Connecting:
    from psycopg import Error, OperationalError  # noqa: PLC0415  # an extra

    async def open_connection(conninfo: str, **arguments: Any) -> "AsyncConnection":
        connection = await connecting(conninfo, **arguments)
        try:
            result = await connection.execute(TIMELINE.encode(), prepare=False)
            system, number = await result.fetchone() or ("", 0)
        except Error:
            if connection.closed:
                raise
            return connection  # a server of another kind, which has no timelines
        except BaseException:
            await connection.close()
            raise
        found = Timeline(system, number)
        if reached.is_outdated(found):
            await connection.close()
            raise OperationalError("the server was the primary before another one was promoted")
        reached.note(found)
        connection.is_outdated = lambda: reached.is_outdated(found)  # type: ignore[attr-defined]  # of our class
        return connection

    return open_connection


def drop_outdated(engine: Engine) -> None:
    """Makes `engine`, an asynchronous one, replace its connections to a primary that was replaced.

    They may be open from before it was frozen.
    """

    def check(connection: Any, *_: object) -> None:
        if connection.driver_connection.is_outdated():
            raise InvalidatePoolError

    event.listen(engine, "checkout", check)


def pool_connection_factory(
    parameters: SessionParameters, reached: ReachedServer, *, silence: float
) -> "Callable[..., Awaitable[AsyncConnection]]":
    """Returns the function with which SQLAlchemy's pool opens connections; it raises as `connect`.

    It sets `reached` to the server of each. `silence` is that of `aborting_connection_class`.
    Raises ConfigurationError without the extra `postgres`.
    """
    aborting_connection_class()  # fails here, not at the first connection, if the extra is missing

    async def open_connection(conninfo: str = "", **arguments: Any) -> "AsyncConnection":
        connection = await connect(
            parameters, conninfo, reached=reached, silence=silence, **arguments
        )
        # SQLAlchemy expects psycopg's default mode. The change costs no round trip.
        await connection.set_autocommit(False)
        return connection

    return open_connection


def shared_connection_factory(*, silence: float) -> "Callable[..., Awaitable[AsyncConnection]]":
    """Returns the function that opens connections to a pooler that shares sessions.

    They set nothing for their session and prepare no statement. The function raises as `connect`,
    and OperationalError if the format of dates is not ISO, which psycopg cannot read. `silence` is
    that of `aborting_connection_class`. Raises ConfigurationError without the extra `postgres`.
    """
    connecting = aborting_connection_class(silence).connect

    async def open_connection(conninfo: str = "", **arguments: Any) -> "AsyncConnection":
        given = {"client_encoding": "utf8", "options": "", "prepare_threshold": None}
        connection = await connect_first(connecting, conninfo, {**NAMED, **arguments, **given})
        dates = connection.info.parameter_status("DateStyle")
        if dates is not None and not dates.startswith("ISO"):
            await connection.close()
            raise _unreadable_dates(dates)
        return connection

    return open_connection


def _unreadable_dates(format_: str) -> Exception:
    from psycopg import OperationalError  # noqa: PLC0415  # an extra

    return OperationalError(
        f"sessions of the pooler have the datestyle {format_}, and it must be ISO: reset it for the"
        " role, the database and the server, and in PGDATESTYLE"
    )


def refuses_options(error: Exception) -> bool:
    """Returns whether a pooler has refused a connection for its start-up parameter `options`."""
    text = str(error)
    return _UNSUPPORTED in text and "options" in text.partition(_UNSUPPORTED)[2]


def invalidate_stale(context: ExceptionContext) -> None:
    """Makes the pool replace its connections after an error that reports a stale statement.

    A session that does not know a statement prepared on it is another session: a pooler was put in
    front of the server. Each new connection detects the pooler.
    """
    if getattr(context.original_exception, "sqlstate", "") in STALE_STATEMENTS:
        context.is_disconnect = True


def has_several_hosts(engine: AsyncEngine) -> bool:
    """Returns whether the URL of `engine` names several hosts."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    return len(hosts_of(arguments)) > 1


def bound_pings(engine: Engine) -> None:
    """Makes `engine`, an asynchronous one, replace its connections if a ping has no response.

    With several hosts, another one may respond meanwhile. The ping of a silent server would take as
    long as the whole request may.
    """
    error: type[Exception] = engine.dialect.loaded_dbapi.OperationalError

    async def wait_for_ping(connection: "AsyncConnection") -> None:
        try:
            async with asyncio.timeout(SILENCE):
                await connection.execute(b"SELECT 1", prepare=False)
        except TimeoutError:
            connection.pgconn.finish()
            raise error("the server does not respond") from None

    def do_ping(connection: Any) -> bool:
        is_autocommit = connection.autocommit
        connection.autocommit = True  # without a round trip
        try:
            await_only(wait_for_ping(connection.driver_connection))
        finally:
            if not connection.closed:
                connection.autocommit = is_autocommit
        return True

    engine.dialect.do_ping = do_ping  # type: ignore[assignment,method-assign]  # of this engine only


def apply_on_connect(
    engine: Engine, parameters: SessionParameters, *, require_utf8: bool = True
) -> None:
    """Sets `parameters` on each new connection of `engine`, a synchronous one.

    With `require_utf8`, connecting raises ConfigurationError if the encoding of the database is not
    UTF8: a database with our tables must accept every character. Connecting also raises
    psycopg.Error if the server refuses a parameter.
    """

    def prepare(connection: "Connection", _: object) -> None:
        try:
            connection.autocommit = True
            encoding = _set_parameters(connection, parameters)
            connection.autocommit = False
            if require_utf8 and encoding != "UTF8":
                raise _unsupported_encoding(connection.info.dbname, encoding)
        except BaseException:
            connection.close()
            raise

    def open_connection(
        dialect: Dialect, _: object, arguments: list[Any], keywords: dict[str, Any]
    ) -> object:
        try:
            return dialect.connect(*arguments, **keywords)
        except Exception as error:
            if not refuses_options(error):
                raise
            # What `options` would have set, `prepare` sets.
            return dialect.connect(*arguments, **{**keywords, "options": ""})

    event.listen(engine, "do_connect", open_connection)
    # Runs before SQLAlchemy's own listener, which reads values.
    event.listen(engine, "connect", prepare, insert=True)


def _set_parameters(connection: "Connection", parameters: SessionParameters) -> str:
    """Returns the encoding of the database."""
    statement = parameters.statement(connection.info.server_version)
    row = connection.execute(statement.encode(), prepare=False).fetchone()
    backend_pid, encoding = (0, "") if row is None else (row[0], str(row[1]))
    url_statement = parameters.url_statement()
    if url_statement is not None and backend_pid != connection.info.backend_pid:
        connection.execute(url_statement[0].encode(), url_statement[1], prepare=False)
    return encoding


def _unsupported_encoding(database: str, encoding: str) -> ConfigurationError:
    return ConfigurationError(
        f"the database {database} has the encoding {encoding}, but UTF8 is required: create another"
        " database with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
    )
