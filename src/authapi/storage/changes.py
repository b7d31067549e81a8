"""How one process hears of what another has changed: which users, or that somebody did.

A change is announced inside its own transaction, so that the announcement exists exactly if the
change does: PostgreSQL delivers a `NOTIFY` at the commit, in the order of commits, and on SQLite
`PRAGMA user_version` is part of the database file. See
`docs/decisions/0011-known-callers.md` for why neither a table nor Redis stands here.
"""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.errors import StorageUnavailable
from authapi.storage.patience import connected
from authapi.storage.postgres.parameters import for_command

if TYPE_CHECKING:
    from psycopg import AsyncConnection as ListeningConnection

_CHANNEL = "authapi_changes"
_USERS_A_MESSAGE = 200  # a payload may have 8,000 bytes; an id takes 33
_VERSIONS = 1 << 31

EVERYBODY: Final = UUID(int=0)
"""Stands for all users in an announcement. Nobody has this id: ours are of version 7."""


class Changes(ABC):
    """Announces changes of users in the transactions that make them."""

    @abstractmethod
    async def announce(self, connection: AsyncConnection, users: Collection[UUID]) -> None:
        """Say in this transaction that `users`, or sessions of theirs, are not what they were."""

    @abstractmethod
    def committed(self) -> None:
        """The transaction that announced last in this process is committed."""


class PostgresChanges(Changes):
    """Announces by `NOTIFY`; any number of processes and hosts may listen."""

    def __init__(self, url: URL) -> None:
        from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg  # noqa: PLC0415  # slow

        # As the pool connects; written as a URL, SQLAlchemy's and libpq's readings differ.
        dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it open
        _, self._options = dialect.create_connect_args(url)  # type: ignore[no-untyped-call]
        self._parameters = for_command(url)

    async def announce(self, connection: AsyncConnection, users: Collection[UUID]) -> None:
        texts = sorted(user.hex for user in users)
        for first in range(0, len(texts), _USERS_A_MESSAGE):
            message = " ".join(texts[first : first + _USERS_A_MESSAGE])
            await connection.execute(_NOTIFY, {"channel": _CHANNEL, "message": message})

    def committed(self) -> None:
        return None

    @asynccontextmanager
    async def listening(self, *, patience: float) -> AsyncIterator["Listener"]:
        """A connection of its own that hears every announcement from now on.

        `patience`, in seconds, bounds each step that waits for the server. Raises
        StorageUnavailable when the connection cannot be made, and when it is lost.
        """
        import psycopg  # noqa: PLC0415  # an extra; whoever has PostgreSQL has it

        # Beats that are prepared could run as a statement of another client behind a pooler.
        options = {**self._options, "prepare_threshold": None}
        try:
            async with asyncio.timeout(patience):
                connection = await connected(self._parameters, **options)
            try:
                async with asyncio.timeout(patience):
                    await connection.execute(f"LISTEN {_CHANNEL}")
                yield Listener(connection, patience)
            finally:
                await connection.close()
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise StorageUnavailable from error


_NOTIFY = sa.text("SELECT pg_notify(:channel, :message)")


class Listener:
    """One listening connection."""

    def __init__(self, connection: "ListeningConnection", patience: float) -> None:
        self._connection = connection
        self._patience = patience

    async def say(self, message: str) -> None:
        """Send a message to every listener, this one too, behind all that was committed before."""
        async with asyncio.timeout(self._patience):
            answer = await self._connection.execute(
                "SELECT pg_notify(%s, %s), pg_backend_pid()", [_CHANNEL, message]
            )
            row = await answer.fetchone()
        # A pooler in between may drop what arrives while we are silent, though never our own beats.
        if row is None or row[1] != self._connection.info.backend_pid:
            raise ConnectionError("a pooler stands between us and the server")

    async def heard(self, *, within: float) -> AsyncIterator[str]:
        """The messages that arrive `within` so many seconds, each at once."""
        async for notification in self._connection.notifies(timeout=within):
            yield notification.payload


class SQLiteChanges(Changes):
    """Announces by raising the number that SQLite keeps for applications in the file's header.

    `unheard` asks SQLite whether the file has changed at all, which is answered from shared memory
    in microseconds, and looks at the number only then: so what one process announces, the others
    notice before their next answer. Announcements of this process do not count as unheard, and
    neither do commits that announce nothing.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._cursor: sqlite3.Cursor | None = None
        self._file: object = None
        self._data_version = -1
        self._number = -1
        """The latest announcement that this process made or heard."""
        self._own = -1

    async def announce(self, connection: AsyncConnection, users: Collection[UUID]) -> None:
        # Nobody else can be here: the transaction holds the only write lock of the file.
        number = await connection.scalar(sa.text("PRAGMA user_version"))
        self._own = (int(number or 0) + 1) % _VERSIONS
        await connection.exec_driver_sql(f"PRAGMA user_version = {self._own}")

    def committed(self) -> None:
        # If another process announced in between, the next `unheard` has to say so.
        if (self._number + 1) % _VERSIONS == self._own:
            self._number = self._own

    def open(self) -> None:
        """Begin to watch the file."""
        self._file = identity_of(self._path)
        # Never waits: what cannot be answered at once counts as a change.
        self._cursor = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=0
        ).cursor()

    def unheard(self) -> bool:
        """Whether another process has announced something since this was last asked.

        Also True the first time, before `open`, when the file is not there or is another one, and
        when SQLite does not answer.
        """
        if self._cursor is None or self._is_replaced():
            return True
        try:
            version = self._cursor.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return False
            number = self._cursor.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            self._data_version = -1
            return True
        self._data_version = version
        if number == self._number:
            return False
        self._number = number
        return True

    def _is_replaced(self) -> bool:
        """Whether the file is not there, or is another one, which is watched from now on."""
        found = identity_of(self._path)
        if found == self._file:
            return False
        if found is not None:
            self.close()
            self.open()
        return True

    def close(self) -> None:
        """Stop watching."""
        if self._cursor is not None:
            self._cursor.connection.close()
            self._cursor = None
        self._data_version = self._number = -1


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file is at `path`, as device and inode; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
