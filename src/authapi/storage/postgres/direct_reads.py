"""Single statements on connections of psycopg, without the engine of SQLAlchemy.

The look-up of a caller whom no cache knows is the most frequent statement of a service. The engine
adds a ping, two tasks and several layers to it, which cost more than the statement. `DirectReads`
keeps a few connections of its own and runs statements that SQLAlchemy has compiled once. A read may
run twice, if its first connection turns out to be lost. A statement that changes rows runs once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from authapi.storage.postgres.connection import STALE_STATEMENTS
from authapi.storage.postgres.hosts import SILENCE, hosts_of

if TYPE_CHECKING:
    import psycopg

_IDLE = 0
"""`PQTRANS_IDLE` of libpq: the connection runs no statement and is in no transaction."""
_Convert = Callable[[Any], Any]
Statement: TypeAlias = sa.Select[Any] | sa.Update
"""A query, or a change with RETURNING."""


class CompiledRead:
    """A statement as text for psycopg, with the conversions of its parameters and columns."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        self.only_reads = isinstance(statement, sa.Select)
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled).encode()
        # A value that is missing is an error: the parameter has no default.
        self._defaults = {
            name: bind.value for name, bind in compiled.binds.items() if not bind.required
        }
        self._binds = {
            name: convert
            for name, bind in compiled.binds.items()
            if (convert := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        }
        self._types = [column.type.dialect_impl(dialect) for column in statement.exported_columns]
        self._dialect = dialect
        self._converters: list[tuple[int, _Convert]] | None = None

    def parameters(self, values: Mapping[str, object]) -> dict[str, object]:
        """Returns the parameters as psycopg takes them."""
        parameters = {**self._defaults, **values}
        for name, convert in self._binds.items():
            parameters[name] = convert(parameters[name])
        return parameters

    async def rows(self, cursor: "psycopg.AsyncCursor[Any]") -> list[list[Any]]:
        """Returns the rows of `cursor` with the values that SQLAlchemy would return."""
        if self._converters is None:
            codes = [column.type_code for column in cursor.description or ()]
            processors = map(self._processor, self._types, codes)
            self._converters = [(i, convert) for i, convert in enumerate(processors) if convert]
        rows = [list(row) for row in await cursor.fetchall()]
        for row in rows:
            for index, convert in self._converters:
                row[index] = convert(row[index])
        return rows

    def _processor(self, type_: sa.types.TypeEngine[Any], code: object) -> _Convert | None:
        return type_.result_processor(self._dialect, code)


class DirectReads:
    """Up to `size` connections in autocommit mode, opened at their first use.

    They are like those of `engine`, which was created with `connect_arguments`: columns of types
    that need its first connection, such as HSTORE, are not supported. `timeout` bounds a read in
    seconds, with the wait for a connection, and `pool_timeout` that wait.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        connect_arguments: Mapping[str, Any],
        *,
        size: int,
        pool_timeout: float,
        timeout: float,
    ) -> None:
        self._dialect = engine.dialect
        self._positional, keywords = engine.dialect.create_connect_args(engine.url)
        self._keywords = {**keywords, **connect_arguments}
        self._has_several_hosts = len(hosts_of(self._keywords)) > 1
        self._open = self._keywords.pop("async_creator_fn")
        self._error = cast("type[psycopg.Error]", engine.dialect.loaded_dbapi.Error)
        self._size = size
        self._pool_timeout = pool_timeout
        self._timeout = timeout
        self._compiled: dict[Statement, CompiledRead] = {}
        self._pool = _Pool(size)
        self.observers: list[Callable[[str], None]] = []
        """Called with each statement."""

    @property
    def in_use(self) -> int:
        """The number of connections that run a statement."""
        return self._pool.in_use

    async def rows(self, statement: Statement, values: Mapping[str, object]) -> list[list[Any]]:
        """Returns the rows of `statement`, which is compiled at its first use.

        Raises DBAPIError as SQLAlchemy would, and TimeoutError.
        """
        pool, loop = self._pool, asyncio.get_running_loop()
        if pool.loop is not loop:
            if pool.loop is not None:
                pool.discard()  # the other loop cannot close its connections any more
                pool = self._pool = _Pool(self._size)
            pool.loop = loop
        read = self._compiled.get(statement)
        if read is None:
            read = self._compiled[statement] = CompiledRead(statement, self._dialect)
        parameters = read.parameters(values)
        async with asyncio.timeout(self._timeout):
            if pool.turns.locked():
                async with asyncio.timeout(self._pool_timeout):
                    await pool.turns.acquire()
            else:
                await pool.turns.acquire()
            pool.in_use += 1
            try:
                return await self._run(pool, read, parameters)
            finally:
                pool.in_use -= 1
                pool.turns.release()

    async def _run(
        self, pool: "_Pool", read: CompiledRead, parameters: Mapping[str, object]
    ) -> list[list[Any]]:
        connection = pool.idle.pop() if pool.idle else None
        if connection is not None and connection.is_outdated():  # type: ignore[attr-defined]  # ours
            connection.pgconn.finish()
            pool.discard()
            connection = None
        try:
            if connection is not None:
                try:
                    if not (self._has_several_hosts and read.only_reads):
                        return await self._run_on(connection, pool, read, parameters)
                    async with asyncio.timeout(SILENCE):
                        return await self._run_on(connection, pool, read, parameters)
                except (self._error, TimeoutError):
                    if not connection.closed or not read.only_reads:
                        raise
                    # A server that has restarted has closed the others too. One of several hosts
                    # that is silent does not answer on them either.
                    pool.discard()
            connection = await self._connect()
            return await self._run_on(connection, pool, read, parameters)
        except self._error as error:
            raise DBAPIError.instance(
                read.text.decode(),
                None,
                error,
                self._error,
                hide_parameters=True,
                connection_invalidated=connection is not None and connection.closed,
                dialect=self._dialect,
            ) from error

    async def _connect(self) -> "psycopg.AsyncConnection":
        connection: psycopg.AsyncConnection = await self._open(*self._positional, **self._keywords)
        await connection.set_autocommit(True)  # without a round trip
        return connection

    async def _run_on(
        self,
        connection: "psycopg.AsyncConnection",
        pool: "_Pool",
        read: CompiledRead,
        parameters: Mapping[str, object],
    ) -> list[list[Any]]:
        """Runs a statement, and closes the connection if it cannot run the next one."""
        for observe in self.observers:
            observe(read.text.decode())
        is_usable, closings = False, pool.closings
        try:
            rows = await read.rows(await connection.execute(read.text, parameters))
            is_usable = True
        except self._error as error:
            is_idle = connection.info.transaction_status == _IDLE
            is_usable = is_idle and error.sqlstate not in STALE_STATEMENTS
            raise
        finally:
            # After a cancellation, the next statement would receive the rows of this one.
            if is_usable and pool is self._pool and pool.closings == closings:
                pool.idle.append(connection)
            else:
                connection.pgconn.finish()
        return rows

    async def close(self) -> None:
        """Closes the connections, those in use after their statement. Later reads open new ones."""
        pool = self._pool
        pool.closings += 1
        while pool.idle:
            await pool.idle.pop().close()


class _Pool:
    """The connections that one event loop uses."""

    def __init__(self, size: int) -> None:
        self.turns = asyncio.Semaphore(size)
        self.idle: deque[psycopg.AsyncConnection] = deque()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.in_use = 0
        self.closings = 0
        """How often the connections were closed. Those that were in use are closed later."""

    def discard(self) -> None:
        """Closes the idle connections at once."""
        while self.idle:
            connection = self.idle.pop()  # kept until it is closed: psycopg warns otherwise
            connection.pgconn.finish()
