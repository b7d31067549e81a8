"""One application whose lifespan runs again and again in one process, in fresh event loops."""

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
AT_ONCE = 6
"""Callers, each with a login of its own. More than the connections, so that some wait."""

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


async def live(api: Client, number: int) -> None:
    """What one caller does: two logins, refreshes, a look, ends of sessions, a logout."""
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


async def everybody(api: Client) -> None:
    """All callers at once."""
    api.cookies.clear()
    async with asyncio.TaskGroup() as group:  # which leaves none of them behind
        for number in range(AT_ONCE):
            group.create_task(live(api, number))


async def register(api: Client) -> None:
    """Makes their accounts."""
    for number in range(AT_ONCE):
        await api.create_user(f"user{number}@example.com")


async def run(app: FastAPI, work: Work) -> None:
    """One run of the lifespan."""
    async with client(app) as api:
        await work(api)


_FOREIGN = ("different loop", "different event loop", "loop is closed")
"""How asyncio and the drivers complain of something that an earlier event loop has left."""


def healthy(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of an earlier event loop was met."""
    for record in caplog.records:
        about = f"{record.getMessage()} {record.exc_info}"
        assert not any(complaint in about for complaint in _FOREIGN), about


def test_twenty_runs_in_fresh_event_loops(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(run(app, register))
    for _ in range(RUNS):
        asyncio.run(run(app, everybody))
    healthy(caplog)


def test_a_run_that_is_cancelled_half_way_harms_none_after_it(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async def cut_off(seconds: float) -> None:
        running = asyncio.create_task(run(app, everybody))
        await asyncio.wait([running], timeout=seconds)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(run(app, register))
    for number in range(RUNS):
        asyncio.run(cut_off(0.01 + 0.02 * number))
        if number % 4 == 3:
            asyncio.run(run(app, everybody))
    healthy(caplog)


# What is not closed ends in the garbage collector, which warns of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_run_of_which_every_task_is_cancelled_at_once_harms_none_after_it(app: FastAPI) -> None:
    async def abandon(seconds: float) -> None:
        running = asyncio.create_task(run(app, everybody))
        await asyncio.wait([running], timeout=seconds)
        # `asyncio.run` cancels every task.

    asyncio.run(run(app, register))
    for number in range(RUNS):
        asyncio.run(abandon(0.01 + 0.02 * number))
        if number % 4 == 3:
            asyncio.run(run(app, everybody))
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_loop_that_was_closed_without_a_stop_harms_none_after_it(app: FastAPI) -> None:
    asyncio.run(run(app, register))
    kept = []
    for _ in range(3):
        loop, opened = asyncio.new_event_loop(), client(app)
        api = loop.run_until_complete(opened.__aenter__())
        loop.run_until_complete(everybody(api))
        loop.close()
        kept.append((loop, opened, api))  # so that no garbage collector tidies up
        asyncio.run(run(app, everybody))
    kept.clear()
    gc.collect()
