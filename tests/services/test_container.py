"""Starts that fail or are cancelled at any step, and stops in which a part fails."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.passwords import Passwords
from authapi.strategies.jwt import JWTStrategy
from authapi.strategies.session import SessionStrategy
from authapi.testing import PASSWORD, client

STEPS = (
    "tokens.secret_scanning.open",
    "mail.open",
    "rate_limits.open",
    "keys.open",
    "keys.start",
    "passwords.start",
    "invalidation.start",
    "last_used.start",
    "cleanup.start",
    "outbox.start",
    "metrics.start",
)
ASYNC_STEPS = ("keys.open", "keys.start", "passwords.start", "invalidation.start")
PARTS = (
    *("metrics.stop", "outbox.stop", "webhooks.close", "cleanup.stop", "last_used.stop"),
    *("keys.stop", "invalidation.stop", "passwords.stop", "rate_limits.close", "database.close"),
)


class Boom(Exception):
    """The error of a failing step."""


def settings(database_url: str, **more: Any) -> Settings:
    return Settings(database_url=database_url, metrics_path="/metrics", **more)  # type: ignore[arg-type]


def method(services: Services, name: str) -> tuple[type[Any], str]:
    """The class of a service, and the name of the method."""
    part, _, called = name.rpartition(".")
    return type(attrgetter(part)(services)), called


def connections(url: str) -> int:
    """The number of connections to a PostgreSQL database, without that of the query."""
    if not url.startswith("postgresql"):
        return 0
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        row = connection.execute(f"{query} AND pid <> pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def open_files(folder: Path) -> list[str]:
    """The open files of this test, and the open sockets of the process."""
    gc.collect()
    found = []
    for name in Path("/proc/self/fd").iterdir():
        try:
            target = str(name.readlink())
        except FileNotFoundError:
            continue
        if target.startswith((str(folder), "socket:")):
            found.append(target)
    return sorted(found)


@asynccontextmanager
async def no_leaks(url: str, folder: Path) -> AsyncIterator[None]:
    """Fails if the block leaks a task, a thread, a file, a socket or a connection."""
    await asyncio.to_thread(len, "")  # starts the thread of the loop's executor
    tasks, files = asyncio.all_tasks(), open_files(folder)
    threads = {thread.name for thread in threading.enumerate()}
    yield
    assert asyncio.all_tasks() == tasks
    assert open_files(folder) == files

    def left() -> tuple[set[str], int]:
        names = {thread.name for thread in threading.enumerate()} - threads
        return {name for name in names if not name.startswith("asyncio_")}, connections(url)

    # The thread of a SQLite connection, and the server process of a PostgreSQL connection, may take
    # a moment to end.
    deadline = time.monotonic() + 10
    while (found := await asyncio.to_thread(left)) != (set(), 0):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.01)


async def check_restart(services: Services) -> None:
    """Checks that the same services can be started again, and work."""
    await services.start()
    try:
        assert (await services.passwords.hash(PASSWORD)).text
        await services.database.ping()
        assert (await services.keys.jwk_set())["keys"]
    finally:
        await services.stop()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
async def test_a_failed_start_closes_everything(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    services = Services.build(settings(database_url))
    owner, name = method(services, step)
    original = getattr(owner, name)

    def fails(self: Any) -> Any:
        async def done_and_failed(done: Awaitable[None]) -> None:
            await done
            raise Boom

        # Fail at the end of the step, after it has opened its resources.
        if (done := original(self)) is None:
            raise Boom
        return done_and_failed(done)

    async with no_leaks(database_url, tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fails)
            with pytest.raises(Boom):
                await services.start()
        await check_restart(services)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("step", ASYNC_STEPS)
async def test_a_start_cancelled_at_a_step_closes_everything(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, where: str
) -> None:
    services = Services.build(settings(database_url))
    owner, name = method(services, step)
    original, reached = getattr(owner, name), asyncio.Event()

    async def waits(self: Any) -> None:
        if where == "after":
            await original(self)
        reached.set()
        await asyncio.Event().wait()

    async with no_leaks(database_url, tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, waits)
            starting = asyncio.create_task(services.start())
            await reached.wait()
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        await check_restart(services)


async def test_a_start_cancelled_at_any_moment_closes_everything(
    database_url: str, tmp_path: Path
) -> None:
    services = Services.build(settings(database_url))
    async with no_leaks(database_url, tmp_path):
        for turns in range(0, 60, 4):
            starting = asyncio.create_task(services.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        await check_restart(services)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
async def test_a_stop_continues_after_a_part_has_failed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    services = Services.build(settings(database_url))
    owner, name = method(services, part)
    original = getattr(owner, name)

    async def fails(self: Any) -> None:
        await original(self)
        raise Boom

    async with no_leaks(database_url, tmp_path):
        await services.start()
        await services.passwords.hash(PASSWORD)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fails)
            with pytest.raises(Boom):
                await services.stop()
        await check_restart(services)


async def test_a_cancelled_stop_closes_everything(database_url: str, tmp_path: Path) -> None:
    services = Services.build(settings(database_url))
    async with no_leaks(database_url, tmp_path):
        for turns in (1, 2, 3, 5, 8, 13):
            await services.start()
            stopping = asyncio.create_task(services.stop())
            for _ in range(turns):
                await asyncio.sleep(0)
                stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping


async def _boom(_: object) -> None:
    raise Boom


async def test_the_error_of_the_start_is_raised_if_closing_fails_too(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    services, stop = Services.build(settings(database_url)), Passwords.stop

    async def fails(self: Passwords) -> None:
        await stop(self)
        raise OSError("while closing")

    monkeypatch.setattr(type(services.invalidation), "start", _boom)
    monkeypatch.setattr(Passwords, "stop", fails)
    with pytest.raises(Boom):
        await services.start()
    assert "while closing" in caplog.text


@pytest.mark.parametrize("error", [Boom(), ConfigurationError("no"), asyncio.CancelledError()])
async def test_a_failed_start_of_a_strategy_stops_all_strategies(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    auth = AuthAPI(settings(database_url, strategies=("session", "jwt")))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    stopped: list[str] = []

    async def fail_start(_: object) -> None:
        raise error

    async def stops(strategy: JWTStrategy | SessionStrategy) -> None:
        stopped.append(strategy.name)
        raise OSError("while closing")

    monkeypatch.setattr(JWTStrategy, "start", fail_start)
    monkeypatch.setattr(JWTStrategy, "stop", stops)
    monkeypatch.setattr(SessionStrategy, "stop", stops)
    async with no_leaks(database_url, tmp_path):
        with pytest.raises(type(error)):
            async with client(app):
                pass
        assert stopped == ["jwt", "session"]
        monkeypatch.undo()
        async with client(app) as api:
            await api.login(await api.create_user())


@pytest.mark.parametrize("where", ["services", "strategy"])
async def test_a_failed_stop_in_the_lifespan_closes_the_rest(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    auth = AuthAPI(settings(database_url))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    owner = JWTStrategy if where == "strategy" else type(auth.runtime.services.outbox)
    stop = owner.stop

    async def fails(self: Any) -> None:
        await stop(self)
        raise Boom

    async with no_leaks(database_url, tmp_path):
        monkeypatch.setattr(owner, "stop", fails)
        with pytest.raises(Boom):
            async with client(app) as api:
                await api.login(await api.create_user())
        with pytest.raises(ZeroDivisionError):
            await _fails_inside(app)


async def _fails_inside(app: FastAPI) -> None:
    async with client(app) as api:
        await api.login(await api.create_user())
        raise ZeroDivisionError


async def test_concurrent_starts_in_one_process(tmp_path: Path) -> None:
    # Each creates a schema of its own, with Alembic, which is not thread-safe.
    found = [Services.build(settings(f"sqlite:///{tmp_path}/{number}.db")) for number in range(4)]
    async with no_leaks("sqlite", tmp_path):
        await asyncio.gather(*(services.start() for services in found))
        await asyncio.gather(*(services.stop() for services in found))
