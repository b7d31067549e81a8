"""Detects a connection pooler in front of PostgreSQL and rejects poolers that share sessions.

PostgreSQL sends each client the process id of its backend (the message BackendKeyData); a pooler
sends a number of its own. If that number differs from `pg_backend_pid()`, there is a pooler. It
either keeps a server session for each client (`pool_mode = session`), or gives a session to another
client after each transaction or statement. In the second case, prepared statements, advisory locks,
`SET` and `LISTEN` of one client affect other clients.

A single connection cannot tell the two apart, because an idle pooler gives it the same session each
time. A second connection therefore holds a transaction open meanwhile. See
`docs/decisions/0019-poolers.md`.
"""

import selectors
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Connection as SQLConnection
from sqlalchemy.engine import Engine
from sqlalchemy.pool import ConnectionPoolEntry

from authapi.errors import AuthAPIError, ConfigurationError, StorageUnavailable
from authapi.storage.postgres.session_parameters import SessionParameters

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult

_TIMEOUT = 5.0
"""Seconds for each connection attempt and each response."""
_ROUNDS = 8
"""How many further connections are compared with the first."""
_SESSION = b"SELECT pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time())"
"""Includes the start time, because two servers behind one address can use equal process ids."""

_SHARED = (
    "a connection pooler in front of the database shares sessions between clients (pool_mode ="
    " transaction or statement): connect to PostgreSQL directly, or set pool_mode = session in the"
    " pooler, or set AUTHAPI_DATABASE_POOLER=transaction and AUTHAPI_DATABASE_DIRECT_URL"
)
_NO_SESSION = (
    "the database accepts a connection but does not respond, like a connection pooler without a"
    " free session: connect to PostgreSQL directly, or raise the pool size in the pooler"
)
_NO_SECOND_SESSION = (
    "the connection pooler in front of the database gives no further session ({}):"
    " connect to PostgreSQL directly, or raise the pool size in the pooler"
)
_POOLED = "authapi_pooled"
"""The key in the `info` of a connection that holds the result."""

_Session = tuple[str, ...]


def check_on_connect(engine: Engine, parameters: SessionParameters) -> None:
    """Checks for a pooler at each new connection of `engine`, before any other statement.

    `parameters` are those of the engine.

    Connecting then raises ConfigurationError if a pooler shares sessions, or gives no first or
    second session. It raises StorageUnavailable if a second connection fails
    without a pooler.
    """
    _, url_arguments = engine.dialect.create_connect_args(engine.url)
    arguments = {**url_arguments, **parameters.arguments(with_own=False)}

    def check(connection: Any, record: ConnectionPoolEntry) -> None:
        try:
            record.info[_POOLED] = _Check(connection, arguments).run()
        except BaseException:
            connection.close()
            raise

    # Runs before SQLAlchemy's own listener, which begins a transaction to read the server version.
    event.listen(engine, "connect", check, insert=True)


def is_pooled(connection: SQLConnection) -> bool:
    """Returns whether `connection` goes through a pooler.

    The engine of the connection must have been passed to `check_on_connect`.
    """
    return bool(connection.info[_POOLED])


class _Check:
    """The check of one new connection, which it leaves unchanged."""

    def __init__(self, connection: "Connection", arguments: Mapping[str, Any]) -> None:
        self._connection = connection
        self._arguments = {**arguments, **_address(connection)}
        self._session: _Session = ()
        self._pooled = False

    def run(self) -> bool:
        """Returns whether there is a pooler. Raises the errors of `check_on_connect`."""
        try:
            self._session = _query(self._connection, _SESSION)
        except TimeoutError:
            raise ConfigurationError(_NO_SESSION) from None
        self._pooled = self._session[0] != str(self._connection.info.backend_pid)
        self._compare_in_transaction()
        if self._pooled:
            # The processes of one pooler, or several poolers behind one address, have sessions of
            # their own, and some assign them in turn: a single comparison can miss a shared one.
            for _ in range(_ROUNDS):
                self._compare()
        return self._pooled

    def _compare_in_transaction(self) -> None:
        import psycopg  # noqa: PLC0415  # an extra; installed, as there is a connection

        with closing(self._open()) as other:
            self._require_own_session(other)
            try:
                _query(other, b"BEGIN")
            except TimeoutError as error:
                raise self._error(error) from None
            except psycopg.Error as error:
                # PgBouncer allows no transaction with pool_mode = statement.
                raised = ConfigurationError(_SHARED) if self._pooled else self._error(error)
                raise raised from None
            self._require_own_session(other)
            with suppress(psycopg.Error, TimeoutError):
                _query(other, b"ROLLBACK")

    def _compare(self) -> None:
        with closing(self._open()) as other:
            self._require_own_session(other)

    def _require_own_session(self, other: "Connection") -> None:
        """Raises if `other` has the session of our connection, or if our session has changed."""
        import psycopg  # noqa: PLC0415

        try:
            other_session = _query(other, _SESSION)
            our_session = _query(self._connection, _SESSION)
        except (psycopg.Error, TimeoutError) as error:
            raise self._error(error) from None
        if other_session == self._session or our_session != self._session:
            raise ConfigurationError(_SHARED)

    def _open(self) -> "Connection":
        import psycopg  # noqa: PLC0415

        # Without `options`, which a pooler may refuse. The comparison does not need them.
        arguments = {**self._arguments, "connect_timeout": int(_TIMEOUT), "options": ""}
        try:
            return psycopg.connect(**arguments, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> AuthAPIError:
        reason = " ".join(str(error).split())
        if self._pooled:
            return ConfigurationError(_NO_SECOND_SESSION.format(reason))
        return StorageUnavailable(f"the database is not available: {reason}")


def _address(connection: "Connection") -> dict[str, Any]:
    # A URL can name several hosts, and a host name can have several addresses: this connection's.
    info = connection.info
    address: dict[str, Any] = {"host": info.host, "port": info.port}
    if info.hostaddr:  # empty with a Unix socket
        address["hostaddr"] = info.hostaddr
    return address


def _query(connection: "Connection", statement: bytes) -> _Session:
    """Returns the last row of `statement`, without a transaction or a prepared statement.

    Raises psycopg.Error, and TimeoutError after `_TIMEOUT`: psycopg's own blocking calls wait
    without a limit if the server does not respond.
    """
    import psycopg  # noqa: PLC0415

    server, deadline = connection.pgconn, time.monotonic() + _TIMEOUT
    server.send_query(statement)
    server.flush()
    row: _Session = ()
    message = ""
    while (result := _next_result(server, deadline)) is not None:
        if result.error_message:
            message = result.get_error_message()
        elif result.ntuples:
            row = tuple((result.get_value(0, n) or b"").decode() for n in range(result.nfields))
    if message:
        raise psycopg.OperationalError(message)
    return row


def _next_result(server: "PGconn", deadline: float) -> "PGresult | None":
    with selectors.DefaultSelector() as selector:
        selector.register(server.socket, selectors.EVENT_READ)
        while server.is_busy():
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"no response within {_TIMEOUT:.0f} s")
            server.consume_input()
    return server.get_result()
