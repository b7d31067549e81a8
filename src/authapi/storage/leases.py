"""Connections that are given back, also when the task that uses them is cancelled.

A task can be cancelled at each of its awaits: because a client hangs up, by a time-out around a
request, at the end of the service, and again while it cleans up. To take a connection, to begin, to
commit, to roll back and to give back are several awaits each, in SQLAlchemy and the driver; a
cancellation between two of them leaves a connection in use, or a lock, until the garbage collector
comes by. So each of these runs in a task of its own, which nothing cancels and which a time-out
bounds. Only statements run in the task of the caller. One that is cancelled costs its connection.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from authapi.storage.faults import Outcome, outcome_after
from authapi.storage.sqlite.connections import StoppableConnection


class Lease:
    """One connection, from when it is taken until it is given back."""

    connection: AsyncConnection

    def __init__(
        self,
        engine: AsyncEngine,
        turn: AbstractAsyncContextManager[Any] | None,
        *,
        deadline: float,
        patience: float,
    ) -> None:
        self._engine = engine
        self._turn = turn
        self._deadline = deadline
        self._patience = patience
        self._transaction: AsyncTransaction | None = None
        self._held = AsyncExitStack()
        self.checked_out: PoolProxiedConnection | None = None
        """What the pool has handed over; SQLAlchemy loses it if it is cancelled soon after."""
        self.driver: Any = None
        """The connection of the driver behind that, also after it was invalidated."""
        self.is_unwanted = False
        """Whether the caller is gone: nothing is begun for it any more."""
        self.on_end: Callable[[Outcome], None] = _ignore
        """Told at the end what became of the transaction, before the next writer's turn."""
        self.loop = asyncio.get_running_loop()
        self.is_given_back = False

    async def take(self, *, begins: bool) -> None:
        """Wait for the turn and a connection, and begin a transaction if asked to.

        Raises TimeoutError at the deadline, and what SQLAlchemy raises.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                if self._turn is not None:
                    await self._held.enter_async_context(self._turn)
                if not self.is_unwanted:
                    await self._open(begins=begins)
        except BaseException:
            await self._give_back()
            raise
        if self.is_unwanted:
            await self._give_back()

    async def _open(self, *, begins: bool) -> None:
        self._held.push_async_callback(self._let_go)  # before the turn is another's
        token = _taking.set(self)
        try:
            self.connection = await self._engine.connect()
        finally:
            _taking.reset(token)
        self._held.push_async_callback(self.connection.close)
        if begins:
            self._transaction = await self.connection.begin()

    async def end(self, *, commits: bool, patience: float) -> None:
        """Commit or roll back, each within `patience` seconds, and give the connection back.

        Raises what the commit raises; a rollback that fails costs the connection, and no more.
        """
        outcome = Outcome.UNDONE
        try:
            if commits and self._transaction is not None:
                async with asyncio.timeout(patience):
                    await self._transaction.commit()
                outcome = Outcome.COMMITTED
        except BaseException as error:
            outcome = outcome_after(error)
            raise
        finally:
            try:
                if outcome is Outcome.UNKNOWN:
                    await self._cut()  # nothing that it is asked now may be answered
                elif self._transaction is not None and outcome is Outcome.UNDONE:
                    await self._roll_back(self._transaction, patience)
                self.on_end(outcome)
            finally:
                await self._give_back()

    async def _roll_back(self, transaction: AsyncTransaction, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await transaction.rollback()
        except (SQLAlchemyError, TimeoutError):
            await self._cut()

    async def _cut(self) -> None:
        """Give the connection up at once; on SQLite its thread closes it behind what it does."""
        connection = self.connection.sync_connection
        if connection is None:
            return
        with suppress(SQLAlchemyError):
            if hasattr(self.driver, "pgconn"):  # psycopg
                # Without a word to the server, which undoes what was not committed and drops its
                # locks. What SQLAlchemy closes then is closed, so it does not wait.
                self.driver.pgconn.finish()
                await greenlet_spawn(connection.invalidate)
            else:
                # `await self.connection.invalidate()` would wait for the thread.
                connection.invalidate()

    async def _give_back(self) -> None:
        try:
            await self._held.aclose()
        finally:
            self.is_given_back = True

    async def _let_go(self) -> None:
        """Close what SQLAlchemy has lost, and wait until SQLite has no lock of it any more.

        The statement of a task that was cancelled twice still runs in the thread of its connection.
        """
        lost = self.checked_out
        if lost is not None and lost.is_valid:
            await greenlet_spawn(lost.invalidate)
        if isinstance(self.driver, StoppableConnection):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self.driver.stopped()

    def drop(self) -> None:
        """Cut the connection of an event loop that is closed, and can do nothing for it any more.

        What it has locked would stay locked until the garbage collector finds it.
        """
        driver: Any = None if self.checked_out is None else self.checked_out.driver_connection
        if hasattr(driver, "pgconn"):  # psycopg
            driver.pgconn.finish()
        elif driver is not None:  # aiosqlite: its thread closes the connection
            driver.stop()


class Leases:
    """Lends the connections of an engine.

    `patience`, in seconds, bounds a commit and a rollback, each on its own.
    """

    def __init__(self, engine: AsyncEngine, *, patience: float) -> None:
        self._patience = patience
        self._tasks = set[asyncio.Task[None]]()
        self._leases = set[Lease]()
        event.listen(engine.sync_engine, "checkout", _note)

    @asynccontextmanager
    async def lend(
        self,
        engine: AsyncEngine,
        *,
        bound: float,
        begins: bool = False,
        turn: AbstractAsyncContextManager[Any] | None = None,
    ) -> AsyncIterator[Lease]:
        """A connection of `engine`, taken and used within `bound` seconds.

        With `begins`, inside a transaction, which is committed at the end of the block or not at
        all. With `turn`, while that is held. Raises TimeoutError at the bound.
        """
        deadline = asyncio.get_running_loop().time() + bound
        lease = Lease(engine, turn, deadline=deadline, patience=self._patience)
        self._leases.add(lease)
        taking = self._start(lease, lease.take(begins=begins))
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(taking)
        except (asyncio.CancelledError, TimeoutError):
            # What has to be cleaned up first, the caller does not wait for.
            lease.is_unwanted = True
            if taking.done() and not taking.cancelled() and taking.exception() is None:
                self._start(lease, lease.end(commits=False, patience=self._patience))
            raise
        try:
            async with asyncio.timeout_at(deadline):
                yield lease
        except BaseException:
            await self._uncut(lease, commits=False)
            raise
        await self._uncut(lease, commits=True)

    def _forget(self, lease: Lease) -> None:
        if lease.is_given_back:
            self._leases.discard(lease)

    async def settle(self) -> None:
        """Return when every connection is given back that no caller waits for any more.

        Connections that an event loop has left behind, which is closed by now, are cut.
        """
        loop = asyncio.get_running_loop()
        self._tasks = {task for task in self._tasks if task.get_loop() is loop}
        while self._tasks:
            await asyncio.wait(self._tasks)
        for lease in self._leases:
            if lease.loop is not loop and not lease.is_given_back:
                lease.drop()
        self._leases = {lease for lease in self._leases if lease.loop is loop}

    async def _uncut(self, lease: Lease, *, commits: bool) -> None:
        ending = lease.end(commits=commits, patience=self._patience)
        await asyncio.shield(self._start(lease, ending))

    def _start(self, lease: Lease, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        caller = asyncio.current_task()
        task = asyncio.create_task(work, name=f"{caller.get_name() if caller else ''} (connection)")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        task.add_done_callback(lambda _: self._forget(lease))
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # is the caller's, who may be gone


_taking: ContextVar[Lease | None] = ContextVar("authapi_taking", default=None)


def _note(_: object, __: object, proxied: PoolProxiedConnection) -> None:
    lease = _taking.get()
    if lease is not None:
        lease.checked_out, lease.driver = proxied, proxied.driver_connection


def _ignore(_: Outcome) -> None:
    return None
