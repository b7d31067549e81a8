"""One application whose lifespan runs repeatedly in one process, in new event loops."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.testing import PASSWORD, Client, client
from tests.servers.valkey import ValkeyServer

pytestmark = pytest.mark.slow

RUNS = 20
CALLERS = 6
"""Concurrent callers, each with an account. More than connections, so that some wait."""

Work = Callable[[Client], Awaitable[None]]


@pytest.fixture(params=["memory", "shared"])
def app(request: pytest.FixtureRequest, database_url: str) -> FastAPI:
    """An application on each database, with its limits in memory and in a shared store."""
    more: dict[str, Any] = {}
    if request.param == "shared":
        server: ValkeyServer = request.getfixturevalue("valkey")
        more["redis_url"] = server.url
    limits: dict[str, Any] = dict.fromkeys(
        ("limit_account_and_network", "limit_account", "limit_network", "limit_total"),
        "100000/minute",
    )
    return create_app(
        Settings(
            database_url=database_url,  # type: ignore[arg-type]
            database_pool_size=3,
            hash_concurrency=2,
            **limits,
            **more,
        )
    )


async def use(api: Client, number: int) -> None:
    """Runs one caller: two logins, refreshes, a read, ends of sessions, and a logout."""
    body = {"email": f"user{number}@example.com", "password": PASSWORD}
    wrong = {**body, "password": "not it, not it, not it"}
    async with asyncio.TaskGroup() as group:
        first = group.create_task(api.post("/login", json={**body, "strategy": "jwt"}))
        guess = group.create_task(api.post("/login", json=wrong))
        second = group.create_task(api.post("/login", json={**body, "strategy": "token"}))
    login, refused, other = first.result(), guess.result(), second.result()
    assert (login.status_code, refused.status_code, other.status_code) == (200, 401, 200)
    for _ in range(2):
        form = {"grant_type": "refresh_token", "refresh_token": login.json()["refresh_token"]}
        login = await api.post("/token", data=form)
        assert login.status_code == 200, login.text
    held = {"Authorization": f"Bearer {login.json()['access_token']}"}
    ended = {"Authorization": f"Bearer {other.json()['access_token']}"}
    assert (await api.get("/me", headers=held)).status_code == 200
    assert (await api.delete("/me/sessions", headers=held)).is_success
    assert (await api.get("/me", headers=ended)).status_code == 401
    assert (await api.post("/logout", headers=held)).status_code == 204
    assert (await api.get("/me", headers=held)).status_code == 401


async def run_all_callers(api: Client) -> None:
    """Runs all callers concurrently."""
    api.cookies.clear()
    async with asyncio.TaskGroup() as group:  # waits for all of them
        for number in range(CALLERS):
            group.create_task(use(api, number))


async def register(api: Client) -> None:
    """Creates the accounts of the callers."""
    for number in range(CALLERS):
        await api.create_user(f"user{number}@example.com")


async def run(app: FastAPI, work: Work) -> None:
    """Runs the lifespan once."""
    async with client(app) as api:
        await work(api)


_FOREIGN = ("different loop", "different event loop", "loop is closed")
"""Error messages of asyncio and the drivers for an object of another event loop."""


def assert_no_foreign_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Checks that no log record reports an object of another event loop."""
    for record in caplog.records:
        text = f"{record.getMessage()} {record.exc_info}"
        assert not any(message in text for message in _FOREIGN), text


def test_twenty_runs_in_new_event_loops(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(run(app, register))
    for _ in range(RUNS):
        asyncio.run(run(app, run_all_callers))
    assert_no_foreign_loop(caplog)


def test_a_cancelled_run_does_not_affect_later_runs(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async def run_and_cancel(seconds: float) -> None:
        running = asyncio.create_task(run(app, run_all_callers))
        await asyncio.wait([running], timeout=seconds)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(run(app, register))
    for number in range(RUNS):
        asyncio.run(run_and_cancel(0.01 + 0.02 * number))
        if number % 4 == 3:
            asyncio.run(run(app, run_all_callers))
    assert_no_foreign_loop(caplog)


# The garbage collector warns of resources that were not closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_run_whose_tasks_are_all_cancelled_does_not_affect_later_runs(app: FastAPI) -> None:
    async def run_and_exit(seconds: float) -> None:
        running = asyncio.create_task(run(app, run_all_callers))
        await asyncio.wait([running], timeout=seconds)
        # `asyncio.run` cancels every task.

    asyncio.run(run(app, register))
    for number in range(RUNS):
        asyncio.run(run_and_exit(0.01 + 0.02 * number))
        if number % 4 == 3:
            asyncio.run(run(app, run_all_callers))
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_loop_closed_without_a_stop_does_not_affect_later_runs(app: FastAPI) -> None:
    asyncio.run(run(app, register))
    kept = []
    for _ in range(3):
        loop, opened = asyncio.new_event_loop(), client(app)
        api = loop.run_until_complete(opened.__aenter__())
        loop.run_until_complete(run_all_callers(api))
        loop.close()
        kept.append((loop, opened, api))  # so that the garbage collector releases nothing
        asyncio.run(run(app, run_all_callers))
    kept.clear()
    gc.collect()
