"""Finds a connection pooler in front of PostgreSQL, and refuses one whose clients share sessions.

PostgreSQL tells each client the process id of its backend (the message BackendKeyData), and a
pooler tells a number of its own. If that number is not what `pg_backend_pid()` gives, a pooler
stands in between. It keeps a session of the server for each client (`pool_mode = session`), or
gives a session to another client after each transaction or statement. Then prepared statements,
advisory locks, `SET` and `LISTEN` of one client reach others.

One connection alone does not tell which: an idle pooler gives it the same session each time. So
a second connection holds a transaction open meanwhile. See `docs/decisions/0019-poolers.md`.
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
from authapi.storage.postgres.parameters import Parameters

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult

_PATIENCE = 5.0
"""Seconds for each connection to be made, and for each answer."""
_ROUNDS = 8
"""How many further connections a pooler has to keep apart from the first."""
_SESSION = b"SELECT pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time())"
"""With the start time, as process ids of two servers behind one address can be equal."""

_SHARED = (
    "a connection pooler in front of the database shares sessions between clients (pool_mode ="
    " transaction or statement): connect to PostgreSQL directly, or set pool_mode = session and"
    " ignore_startup_parameters = options in the pooler"
)
NO_OPTIONS = (
    "the connection pooler in front of the database refuses the start-up parameter options:"
    " connect to PostgreSQL directly, or set ignore_startup_parameters = options in the pooler"
)
_NO_FIRST = (
    "the database accepts a connection and gives no answer on it, as a connection pooler without a"
    " free session does: connect to PostgreSQL directly, or raise the pool size in the pooler"
)
_NO_SECOND = (
    "the connection pooler in front of the database gives no further session ({}):"
    " connect to PostgreSQL directly, or raise the pool size in the pooler"
)
_POOLED = "authapi_pooled"
"""Under this name the answer is kept beside the connection."""
UNSUPPORTED = "unsupported startup parameter"
"""What PgBouncer says to `options`, or to a name in it."""

_Session = tuple[str, ...]


def guard(engine: Engine, parameters: Parameters, service: Parameters | None = None) -> None:
    """Look for a pooler at each new connection of `engine`, before anything else is sent on it.

    `parameters` are those of the engine. `service` are those that the service puts into the
    start-up parameter `options`: a pooler decides by their names, not by values. To connect then
    raises ConfigurationError, in one line that names what to do, if sessions are shared, if a
    pooler refuses `options`, or if it gives no session or one only; StorageUnavailable if there is
    no second connection without a pooler.
    """
    _, given = engine.dialect.create_connect_args(engine.url)
    arguments = {**given, **parameters.arguments(with_ours=False)}
    options = "" if service is None else service.options

    def look(connection: Any, record: ConnectionPoolEntry) -> None:
        try:
            record.info[_POOLED] = _Look(connection, arguments).look(options)
        except BaseException:
            connection.close()
            raise

    # Before SQLAlchemy's own listener, which begins a transaction to ask for the server's version.
    event.listen(engine, "connect", look, insert=True)


def is_pooled(connection: SQLConnection) -> bool:
    """Whether a pooler is in front of this connection, of an engine that `guard` was called for."""
    return bool(connection.info[_POOLED])


class _Look:
    """One look through one new connection, which is then as it was before."""

    def __init__(self, connection: "Connection", parameters: Mapping[str, Any]) -> None:
        self._connection = connection
        self._parameters = {**parameters, **_address(connection)}
        self._session: _Session = ()
        self._pooled = False

    def look(self, options: str) -> bool:
        """Whether a pooler is there, which then keeps sessions apart. Raises as `guard` tells."""
        try:
            self._session = _ask(self._connection, _SESSION)
        except TimeoutError:
            raise ConfigurationError(_NO_FIRST) from None
        self._pooled = self._session[0] != str(self._connection.info.backend_pid)
        self._compare_in_transaction()
        if self._pooled:
            # Several processes of a pooler, or several poolers behind one address, have sessions
            # of their own, and some hand them out in turn: one comparison can miss.
            for _ in range(_ROUNDS):
                self._compare()
            if options:
                self._open(options).close()
        return self._pooled

    def _compare_in_transaction(self) -> None:
        import psycopg  # noqa: PLC0415  # an extra; one of its connections is here

        with closing(self._open()) as other:
            self._differ(other)
            try:
                _ask(other, b"BEGIN")
            except TimeoutError as error:
                raise self._refusal(error) from None
            except psycopg.Error as error:
                # PgBouncer allows no transaction with pool_mode = statement.
                refusal = ConfigurationError(_SHARED) if self._pooled else self._refusal(error)
                raise refusal from None
            self._differ(other)
            with suppress(psycopg.Error, TimeoutError):
                _ask(other, b"ROLLBACK")

    def _compare(self) -> None:
        with closing(self._open()) as other:
            self._differ(other)

    def _differ(self, other: "Connection") -> None:
        """Raise if `other` has the session of our connection, or ours has another one now."""
        import psycopg  # noqa: PLC0415

        try:
            theirs = _ask(other, _SESSION)
            ours = _ask(self._connection, _SESSION)
        except (psycopg.Error, TimeoutError) as error:
            raise self._refusal(error) from None
        if theirs == self._session or ours != self._session:
            raise ConfigurationError(_SHARED)

    def _open(self, options: str = "") -> "Connection":
        import psycopg  # noqa: PLC0415

        chosen = {**self._parameters, "connect_timeout": int(_PATIENCE)}
        if options:
            chosen["options"] = options
        try:
            return psycopg.connect(**chosen, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            if options and UNSUPPORTED in str(error):
                raise ConfigurationError(NO_OPTIONS) from None
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> AuthAPIError:
        reason = " ".join(str(error).split())
        if self._pooled:
            return ConfigurationError(_NO_SECOND.format(reason))
        return StorageUnavailable(f"the database is not available: {reason}")


def _address(connection: "Connection") -> dict[str, Any]:
    # Of several hosts in the URL, or several addresses of one name, the one that has answered.
    info = connection.info
    address: dict[str, Any] = {"host": info.host, "port": info.port}
    if info.hostaddr:  # none with a Unix socket
        address["hostaddr"] = info.hostaddr
    return address


def _ask(connection: "Connection", statement: bytes) -> _Session:
    """The last row that `statement` gives. No transaction is begun for it, nothing is prepared.

    Raises psycopg.Error, and TimeoutError after `_PATIENCE`: psycopg's own calls that block wait
    for as long as the server is silent.
    """
    import psycopg  # noqa: PLC0415

    server, deadline = connection.pgconn, time.monotonic() + _PATIENCE
    server.send_query(statement)
    server.flush()
    row: _Session = ()
    problem = ""
    while (result := _next_result(server, deadline)) is not None:
        if result.error_message:
            problem = result.get_error_message()
        elif result.ntuples:
            row = tuple((result.get_value(0, n) or b"").decode() for n in range(result.nfields))
    if problem:
        raise psycopg.OperationalError(problem)
    return row


def _next_result(server: "PGconn", deadline: float) -> "PGresult | None":
    with selectors.DefaultSelector() as selector:
        selector.register(server.socket, selectors.EVENT_READ)
        while server.is_busy():
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"no answer within {_PATIENCE:.0f} s")
            server.consume_input()
    return server.get_result()
