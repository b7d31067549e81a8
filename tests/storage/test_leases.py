"""Repeated cancellation during the cleanup: connections, locks and tasks are released."""

import asyncio
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from authapi.storage import Database
from authapi.storage.sqlite.connections import RollbackOnClose, StoppableConnection
from tests.storage.cancelling import Steps, until
from tests.storage.rows import a_user, sql, store_user

USERS = "SELECT email FROM authapi_users ORDER BY email"


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Disables the garbage collector, which could hide a leak by chance."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Blocked:
    """A SQL function of a SQLite connection that returns after `released` is set."""

    def __init__(self) -> None:
        self.is_running = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> int:
        self.is_running.set()
        assert self.released.wait(30)
        return 1


@asynccontextmanager
async def cancelled_while_it_writes(database: Database, times: int) -> AsyncIterator[Blocked]:
    """Cancels a writing transaction `times` times while one of its statements runs."""
    blocked = Blocked()

    async def write() -> None:
        async with database.transaction() as store:
            await store.users.add(a_user(), email="first@example.com", password_hash=None)
            raw = await store.connection.get_raw_connection()
            driver = raw.driver_connection
            assert isinstance(driver, StoppableConnection)
            await driver.create_function("blocked", 0, blocked)
            await store.connection.execute(sa.text("SELECT blocked()"))

    task = asyncio.create_task(write())
    await asyncio.to_thread(blocked.is_running.wait, 30)
    for _ in range(times):
        task.cancel()
        for _ in range(20):  # until it awaits the next step of its cleanup
            await asyncio.sleep(0)
    try:
        yield blocked
    finally:
        blocked.released.set()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_next_writer_waits_for_the_thread_of_a_cancelled_writer(
    sqlite_url: str, times: int
) -> None:
    database = Database(sqlite_url)
    begun: list[str] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def note(*arguments: object) -> None:
        if str(arguments[2]).startswith("BEGIN"):
            begun.append(str(arguments[2]))

    async with cancelled_while_it_writes(database, times) as blocked:
        assert begun == ["BEGIN IMMEDIATE"]
        following = asyncio.create_task(store_user(database, a_user(), email="next@example.com"))
        done, _ = await asyncio.wait([following], timeout=0.2)
        assert not done
        assert begun == ["BEGIN IMMEDIATE"], "it began while the first still had the lock"
        blocked.released.set()
        with anyio.fail_after(5):
            await following
    assert sql(sqlite_url, USERS) == [("next@example.com",)]
    await database.close()


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelled_connection_leaves_no_task_or_thread(sqlite_url: str, times: int) -> None:
    database = Database(sqlite_url)
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with cancelled_while_it_writes(database, times) as blocked:
        blocked.released.set()
    with anyio.fail_after(5):
        await database.close()
    await until(lambda: asyncio.all_tasks() == tasks and not new_threads(threads))


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """Returns the new threads, except those of asyncio's default executor."""
    found = set(threading.enumerate()) - before
    return {thread for thread in found if not thread.name.startswith("asyncio_")}


@pytest.mark.parametrize("again", [0, 1, 2, 3])
async def test_repeated_cancellation_at_any_await_releases_the_connection(
    database_url: str, again: int
) -> None:
    database = Database(database_url, pool_size=1, pool_timeout=5)
    await database.ping()
    tasks = asyncio.all_tasks()
    for at in range(1, 200):
        steps = Steps(at, at + again)
        await steps.run(store_user(database, a_user(), email=f"{at}@example.com"))
        await until(lambda: not database.connections_in_use and asyncio.all_tasks() == tasks)
        if not steps.is_cut:
            break
    with anyio.fail_after(5):
        await store_user(database, a_user())
    assert ("alice@example.com",) in sql(database_url, USERS)
    await database.close()


async def test_failed_rollback_leaves_no_thread(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: RollbackOnClose) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    database = Database(sqlite_url)
    before = set(threading.enumerate())
    await database.ping()
    with monkeypatch.context() as patch, suppress(ZeroDivisionError):
        patch.setattr(RollbackOnClose, "rollback", broken)
        async with database.transaction() as store:
            await store.users.add(a_user(), email="first@example.com", password_hash=None)
            raise ZeroDivisionError
    with anyio.fail_after(5):
        await store_user(database, a_user())
        await database.close()
    await until(lambda: not new_threads(before))
    assert sql(sqlite_url, USERS) == [("alice@example.com",)]
