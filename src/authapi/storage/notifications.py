"""Notifications between processes: which users changed in a committed transaction.

A transaction sends its notification itself, so the notification exists exactly if the change was
committed. PostgreSQL delivers a `NOTIFY` at the commit, in the order of commits. On SQLite,
`PRAGMA user_version` is part of the database file and so of the transaction. See
`docs/decisions/0011-identity-cache.md` for the alternatives (a table, Redis).
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.errors import StorageUnavailable
from authapi.storage.application.session import IDENTITY_QUERY
from authapi.storage.postgres.connection import connect
from authapi.storage.postgres.servers import SERVER, ReachedServer
from authapi.storage.postgres.session_parameters import command_parameters

if TYPE_CHECKING:
    from psycopg import AsyncConnection as ListeningConnection

    from authapi.storage.store import Store

_CHANNEL = "authapi_changes"
_TIMEOUT = 10.0
"""Seconds in which the server must answer at a start."""
_USERS_PER_MESSAGE = 200  # a payload has at most 8,000 bytes; an id takes 33

ALL_USERS: Final = UUID(int=0)
"""Stands for every user in a notification. No user has this id: ids of users are UUIDv7."""

OnChange: TypeAlias = Callable[[Collection[UUID]], None]
"""Called with the users that have changed, `ALL_USERS` among them if it may be any."""


class Notifications(ABC):
    """Sends a notification in each transaction that changes users."""

    @abstractmethod
    async def notify(self, connection: AsyncConnection, users: Collection[UUID]) -> None:
        """Notifies other processes, at the commit, that `users` or their sessions have changed."""

    @abstractmethod
    def committed(self) -> None:
        """Records that the last notifying transaction of this process was committed."""


class PostgresNotifications(Notifications):
    """Notifies with `NOTIFY`. Any number of processes on any number of hosts can listen.

    `url` is that of the listening connection. `read` gives a connection of the pool for one
    statement, and `reached` is the server of the newest of them.
    """

    def __init__(
        self,
        url: URL,
        read: "Callable[[], AbstractAsyncContextManager[Store]]",
        reached: ReachedServer,
    ) -> None:
        from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg  # noqa: PLC0415  # slow

        # The same arguments as the pool's: SQLAlchemy and libpq read some URLs differently.
        dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy
        _, self._options = dialect.create_connect_args(url)  # type: ignore[no-untyped-call]
        self._parameters = command_parameters(url)
        self._read, self._reached = read, reached

    async def notify(self, connection: AsyncConnection, users: Collection[UUID]) -> None:
        ids = sorted(user.hex for user in users)
        for start in range(0, len(ids), _USERS_PER_MESSAGE):
            message = " ".join(ids[start : start + _USERS_PER_MESSAGE])
            await send_message(connection, message)

    def committed(self) -> None:
        return None

    async def send(self, message: str) -> None:
        """Sends one message to all listeners, over the pool, in a transaction of its own.

        Raises StorageUnavailable.
        """
        async with self._read() as store:
            await send_message(store.connection, message)

    def shares_server(self, listener: "Listener") -> bool:
        """Returns whether the newest connection of the pool is to the server of `listener`."""
        return self._reached.started == listener.server

    async def find_server(self) -> None:
        """Asks the pool which server it reaches. Raises StorageUnavailable."""
        async with self._read() as store:
            self._reached.started = await store.connection.scalar(_SERVER)

    async def identity(self) -> object:
        """Returns a value that equals that of another connection to the same database.

        Raises StorageUnavailable if the connection cannot be made.
        """
        import psycopg  # noqa: PLC0415  # as below

        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                await connect(self._parameters, **self._options) as connection,
            ):
                result = await connection.execute(IDENTITY_QUERY.text.encode(), prepare=False)
                row = await result.fetchone()
        except (psycopg.Error, OSError) as error:
            raise StorageUnavailable from error
        return row

    @asynccontextmanager
    async def listen(self, *, operation_timeout: float) -> AsyncIterator["Listener"]:
        """Opens a connection outside of the pool that receives every notification from now on.

        `operation_timeout`, in seconds, bounds every wait for the server: to connect, to listen and
        to answer. Raises StorageUnavailable if the connection cannot be made or is lost.
        """
        import psycopg  # noqa: PLC0415  # an extra, installed wherever PostgreSQL is used

        # Behind a pooler, a prepared statement could run as a statement of another client.
        options = {**self._options, "prepare_threshold": None}
        try:
            async with asyncio.timeout(operation_timeout):
                connection = await connect(self._parameters, **options)
            try:
                async with asyncio.timeout(operation_timeout):
                    session, server = await _row(connection, _FIRST)
                    is_pooled = session != connection.info.backend_pid
                    await connection.execute(f"LISTEN {_CHANNEL}")
                yield Listener(connection, operation_timeout, server, is_pooled=is_pooled)
            finally:
                await connection.close()
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise StorageUnavailable from error


_NOTIFY = sa.text("SELECT pg_notify(:channel, :message)")


async def send_message(connection: AsyncConnection, message: str) -> None:
    """Sends `message` to every listener at the commit of the transaction of `connection`."""
    await connection.execute(_NOTIFY, {"channel": _CHANNEL, "message": message})


_SERVER = sa.text(f"SELECT {SERVER}")
_FIRST = f"SELECT pg_backend_pid(), {SERVER}"
_BEAT = "SELECT pg_backend_pid() AS heartbeat"
"""The name of the column tells an operator what the session does."""


async def _row(connection: "ListeningConnection", statement: str) -> Sequence[object]:
    result = await connection.execute(statement.encode(), prepare=False)
    return await result.fetchone() or ()


class Listener:
    """One listening connection to PostgreSQL.

    The methods raise psycopg.Error or OSError if the connection is lost; `listen` turns them into
    StorageUnavailable.
    """

    def __init__(
        self,
        connection: "ListeningConnection",
        operation_timeout: float,
        server: object,
        *,
        is_pooled: bool,
    ) -> None:
        self._connection = connection
        self._operation_timeout = operation_timeout
        self.server = server
        """The value of `SERVER` on its connection."""
        self.is_pooled = is_pooled
        """Whether a pooler is in front of the server. Then no statement may follow `LISTEN`: a
        pooler links a session to a client when the client sends a statement, and notifications of a
        session that is not linked are lost. So a message that arrives, although no statement was
        sent, proves that the session has been linked since."""

    async def beat(self) -> Sequence[str]:
        """Sends a statement, and returns the messages that arrived before its result.

        Every notification whose commit was acknowledged before the call has then been received.
        The server signals the listeners before it acknowledges a commit, and a session sends its
        notifications before it is ready for the next statement.

        Raises ConnectionError if a pooler is in front of the server, TimeoutError after the
        operation timeout.
        """
        async with asyncio.timeout(self._operation_timeout):
            [session] = await _row(self._connection, _BEAT)
        # A pooler may drop notifications that arrive while this connection is idle.
        if session != self._connection.info.backend_pid:
            raise ConnectionError("a connection pooler is between this process and the server")
        messages = [message async for message in self.receive(max_wait=0)]
        # What libpq has read after the last result, and psycopg has not asked it for yet.
        server, encoding = self._connection.pgconn, self._connection.info.encoding
        while (notification := server.notifies()) is not None:
            messages.append(notification.extra.decode(encoding))
        return messages

    async def receive(self, *, max_wait: float) -> AsyncIterator[str]:
        """Yields each message on its arrival, and ends after `max_wait` seconds."""
        async for notification in self._connection.notifies(timeout=max_wait):
            yield notification.payload
