"""Leases of pooled connections, which are released even if the task that uses them is cancelled.

A task can be cancelled at each of its awaits: because the client disconnects, because of a timeout
around a request, when the service shuts down, and again during its cleanup. Checking out a
connection, beginning, committing, rolling back and checking in are several awaits each, in
SQLAlchemy and in the driver. A cancellation between two of them leaves a connection in use, or a
lock held, until the garbage collector runs. Each of these operations therefore runs in a task of
its own, which is never cancelled and has a timeout. Only statements run in the task of the caller.
Cancelling a statement closes its connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from authapi.storage.driver_errors import TransactionOutcome, outcome_of_failed_commit
from authapi.storage.sqlite.connections import StoppableConnection


class Lease:
    """One connection, from its checkout until its release."""

    connection: AsyncConnection

    def __init__(
        self,
        engine: AsyncEngine,
        write_lock: AbstractAsyncContextManager[Any] | None,
        *,
        deadline: float,
        end_timeout: float,
        restore: Callable[[AsyncConnection], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._restore = restore
        self._write_lock = write_lock
        self._deadline = deadline
        self._end_timeout = end_timeout
        self._transaction: AsyncTransaction | None = None
        self._resources = AsyncExitStack()
        self.checked_out: PoolProxiedConnection | None = None
        """The connection from the pool. SQLAlchemy loses it if it is cancelled right after the
        checkout."""
        self.driver: Any = None
        """The connection of the driver, which stays here after it was invalidated."""
        self.is_abandoned = False
        """Whether the caller was cancelled or timed out: no transaction is begun any more."""
        self.on_end: Callable[[TransactionOutcome], None] = _ignore
        """Called with the outcome of the transaction, before the write lock is released."""
        self.loop = asyncio.get_running_loop()
        self.is_released = False

    async def acquire(self, *, begins: bool) -> None:
        """Waits for the write lock and a connection, and begins a transaction if `begins`.

        Raises TimeoutError at the deadline, and the errors of SQLAlchemy.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                if self._write_lock is not None:
                    await self._resources.enter_async_context(self._write_lock)
                if not self.is_abandoned:
                    await self._check_out(begins=begins)
        except BaseException:
            await self._release()
            raise
        if self.is_abandoned:
            await self._release()

    async def _check_out(self, *, begins: bool) -> None:
        # Pushed first, so that it runs last, but before the write lock is released.
        self._resources.push_async_callback(self._discard_lost)
        connection = await greenlet_spawn(self._connect)
        self.connection = AsyncConnection(self._engine, connection)
        self._resources.push_async_callback(self.connection.close)
        self._resources.push_async_callback(self._restore, self.connection)
        if begins:
            self._transaction = await self.connection.begin()

    def _connect(self) -> Connection:
        # Noted here, because the pool may be that of the application, where we set no listener.
        engine, dialect = self._engine.sync_engine, self._engine.dialect
        try:
            self.checked_out = engine.raw_connection()
        except dialect.loaded_dbapi.Error as error:  # as `Connection` does for its own checkout
            Connection._handle_dbapi_exception_noconnection(error, dialect, engine)
            raise
        self.driver = self.checked_out.driver_connection
        return Connection(engine, self.checked_out)

    async def end(self, *, commits: bool) -> None:
        """Commits or rolls back, each within `end_timeout`, and releases the connection.

        Raises the errors of the commit, and TimeoutError. A failed rollback closes the connection
        and raises nothing.
        """
        outcome = TransactionOutcome.ROLLED_BACK
        try:
            if commits and self._transaction is not None:
                async with asyncio.timeout(self._end_timeout):
                    await self._transaction.commit()
                outcome = TransactionOutcome.COMMITTED
        except BaseException as error:
            outcome = outcome_of_failed_commit(error)
            raise
        finally:
            try:
                if outcome is TransactionOutcome.UNKNOWN:
                    await self._abort()  # the server may not respond to a rollback either
                elif self._transaction is not None and outcome is TransactionOutcome.ROLLED_BACK:
                    await self._roll_back(self._transaction)
                self.on_end(outcome)
            finally:
                await self._release()

    async def _roll_back(self, transaction: AsyncTransaction) -> None:
        if self.connection.get_transaction() is None:
            return  # the session of an application has rolled it back, after a failed flush
        try:
            async with asyncio.timeout(self._end_timeout):
                await transaction.rollback()
        except (SQLAlchemyError, TimeoutError):
            await self._abort()

    async def _abort(self) -> None:
        """Closes the connection at once. On SQLite, its thread closes it after the running call."""
        connection = self.connection.sync_connection
        if connection is None:
            return
        with suppress(SQLAlchemyError):
            if hasattr(self.driver, "pgconn"):  # psycopg
                # Closes the socket without a message. The server rolls back and releases the locks.
                # SQLAlchemy then closes a connection that is already closed, which does not wait.
                self.driver.pgconn.finish()
                await greenlet_spawn(connection.invalidate)
            else:
                # `await self.connection.invalidate()` would wait for the thread.
                connection.invalidate()

    async def _release(self) -> None:
        try:
            await self._resources.aclose()
        finally:
            self.is_released = True

    async def _discard_lost(self) -> None:
        """Closes a connection that SQLAlchemy has lost, and waits until SQLite released its locks.

        The statement of a task that was cancelled twice still runs in the thread of its connection.
        """
        lost = self.checked_out
        if lost is not None and lost.is_valid:
            await greenlet_spawn(lost.invalidate)
        if isinstance(self.driver, StoppableConnection):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._end_timeout):
                    await self.driver.wait_stopped()

    def terminate(self) -> None:
        """Closes the connection of an event loop that is closed, and cannot run its cleanup.

        Otherwise its locks would stay until the garbage collector runs.
        """
        driver: Any = None if self.checked_out is None else self.checked_out.driver_connection
        if hasattr(driver, "pgconn"):  # psycopg
            driver.pgconn.finish()
        elif driver is not None:  # aiosqlite: its thread closes the connection
            driver.stop()


class Leases:
    """Leases connections of engines.

    `end_timeout`, in seconds, bounds a commit and a rollback, each on its own. `restore` is called
    with each connection before it returns to its pool.
    """

    def __init__(
        self,
        *,
        end_timeout: float,
        restore: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        self._end_timeout = end_timeout
        self._restore = restore or _keep
        self._tasks = set[asyncio.Task[None]]()
        self._leases = set[Lease]()

    @asynccontextmanager
    async def acquire(
        self,
        engine: AsyncEngine,
        *,
        max_duration: float,
        begins: bool = False,
        write_lock: AbstractAsyncContextManager[Any] | None = None,
    ) -> AsyncIterator[Lease]:
        """Leases a connection of `engine` for at most `max_duration` seconds, with the wait for it.

        With `begins`, the block is a transaction: it is committed at the end of the block, and
        rolled back if the block raises. `write_lock` is held from before the checkout until after
        the release.

        Raises TimeoutError after `max_duration`, and the errors of SQLAlchemy.
        """
        deadline = asyncio.get_running_loop().time() + max_duration
        lease = Lease(
            engine,
            write_lock,
            deadline=deadline,
            end_timeout=self._end_timeout,
            restore=self._restore,
        )
        self._leases.add(lease)
        acquiring = self._start(lease, lease.acquire(begins=begins))
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(acquiring)
        except (asyncio.CancelledError, TimeoutError):
            # The caller does not wait for the cleanup.
            lease.is_abandoned = True
            if acquiring.done() and not acquiring.cancelled() and acquiring.exception() is None:
                self._start(lease, lease.end(commits=False))
            raise
        try:
            async with asyncio.timeout_at(deadline):
                yield lease
        except BaseException:
            await self._end_shielded(lease, commits=False)
            raise
        await self._end_shielded(lease, commits=True)

    def _forget(self, lease: Lease) -> None:
        if lease.is_released:
            self._leases.discard(lease)

    async def wait_released(self) -> None:
        """Waits until the connections of all abandoned leases are released.

        Closes the connections that belong to an event loop that is closed by now.
        """
        loop = asyncio.get_running_loop()
        self._tasks = {task for task in self._tasks if task.get_loop() is loop}
        while self._tasks:
            await asyncio.wait(self._tasks)
        for lease in self._leases:
            if lease.loop is not loop and not lease.is_released:
                lease.terminate()
        self._leases = {lease for lease in self._leases if lease.loop is loop}

    async def _end_shielded(self, lease: Lease, *, commits: bool) -> None:
        await asyncio.shield(self._start(lease, lease.end(commits=commits)))

    def _start(self, lease: Lease, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        caller = asyncio.current_task()
        task = asyncio.create_task(work, name=f"{caller.get_name() if caller else ''} (connection)")
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        task.add_done_callback(lambda _: self._forget(lease))
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Marks the error as retrieved: a cancelled caller does not await the task.
            task.exception()


async def _keep(_: AsyncConnection) -> None:
    return None


def _ignore(_: TransactionOutcome) -> None:
    return None
