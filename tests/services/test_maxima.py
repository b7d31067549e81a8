"""The limits of logins and personal access tokens of one account."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import time_machine

from authapi import Settings, create_app
from authapi.testing import PASSWORD, Client, client
from tests.web.responses import problem

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
ALICE = "alice@example.com"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """The shipped application with a limit of three for each."""
    settings = Settings(database_url=database_url, max_sessions=3, max_personal_tokens=3)  # type: ignore[arg-type]
    async with client(create_app(settings)) as found:
        await found.create_user(ALICE)
        yield found


async def log_in(api: Client, strategy: str) -> tuple[str, dict[str, str]]:
    """The session id of a new login, and the headers with its credential. Clears the cookies."""
    body = {"email": ALICE, "password": PASSWORD, "strategy": strategy}
    answer = await api.post("/login", json=body)
    assert answer.status_code == 200
    api.cookies.clear()
    headers = (
        {"cookie": f"authapi={answer.cookies['authapi']}"}
        if strategy == "session"
        else {"authorization": f"Bearer {answer.json()['access_token']}"}
    )
    identity = await api.get("/me/identity", headers=headers)
    return identity.json()["session_id"], headers


async def make(api: Client, headers: dict[str, str], **body: object) -> httpx.Response:
    return await api.post("/me/tokens", json={"name": "x", **body}, headers=headers)


async def sessions_of(api: Client, headers: dict[str, str]) -> set[str]:
    return {item["id"] for item in (await api.get("/me/sessions", headers=headers)).json()}


async def ended(api: Client, headers: dict[str, str]) -> list[dict[str, Any]]:
    items = (await api.get("/me/events", headers=headers)).json()["items"]
    return [item for item in items if item["type"] == "session_ended"]


async def test_v7_1_2_a_login_beyond_the_limit_ends_the_least_recently_used_one(
    api: Client,
) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        logins = []
        for strategy in ("session", "token", "jwt"):
            logins.append(await log_in(api, strategy))
            clock.shift(60)
        # The first is used again, so the second is the least recently used one.
        assert (await api.get("/me", headers=logins[0][1])).status_code == 200
        await api.services.last_used.flush()
        clock.shift(60)
        newest, headers = await log_in(api, "session")
        assert (await api.get("/me", headers=logins[1][1])).status_code == 401
        assert await sessions_of(api, headers) == {logins[0][0], logins[2][0], newest}
        [event] = await ended(api, headers)
        assert event["session_id"] == logins[1][0]
        assert event["detail"] == {"because": "max_sessions"}


async def test_a_login_that_replaces_one_ends_no_other(api: Client) -> None:
    _, headers = await log_in(api, "session")
    others = [(await log_in(api, "token"))[0] for _ in range(2)]
    body = {"email": ALICE, "password": PASSWORD}
    answer = await api.post("/login", json=body, headers=headers)
    headers = {"cookie": f"authapi={answer.cookies['authapi']}"}
    assert set(others) < await sessions_of(api, headers)
    assert [item["detail"] for item in await ended(api, headers)] == [{"because": "replaced"}]


async def test_expired_sessions_and_personal_tokens_do_not_count_as_logins(api: Client) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        for _ in range(3):
            await log_in(api, "jwt")
        clock.shift(timedelta(days=14))
        logins = [await log_in(api, "session") for _ in range(3)]
        for _ in range(3):
            assert (await make(api, logins[0][1])).status_code == 201
        assert len(await sessions_of(api, logins[0][1])) == 3
        assert await ended(api, logins[0][1]) == []


async def test_concurrent_logins_do_not_exceed_the_limit(api: Client) -> None:
    body = {"email": ALICE, "password": PASSWORD, "strategy": "token"}
    answers = await asyncio.gather(*(api.post("/login", json=body) for _ in range(9)))
    assert {answer.status_code for answer in answers} == {200}
    statuses = []
    for answer in answers:
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        statuses.append((await api.get("/me", headers=headers)).status_code)
    assert Counter(statuses) == {200: 3, 401: 6}


async def test_a_token_beyond_the_limit_is_refused(api: Client) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        _, headers = await log_in(api, "session")
        answers = await asyncio.gather(*(make(api, headers, expires_in=60) for _ in range(8)))
        assert Counter(answer.status_code for answer in answers) == {201: 3, 409: 5}
        problem(await make(api, headers), 409, "too_many_tokens")
        # A token that is revoked or expires frees a place.
        listed = (await api.get("/me/tokens", headers=headers)).json()
        assert len(listed) == 3
        await api.delete(f"/me/tokens/{listed[0]['id']}", headers=headers)
        assert (await make(api, headers, expires_in=60)).status_code == 201
        problem(await make(api, headers), 409, "too_many_tokens")
        clock.shift(60)
        assert (await make(api, headers)).status_code == 201


async def test_tokens_of_other_users_do_not_count(api: Client) -> None:
    _, headers = await log_in(api, "session")
    for _ in range(3):
        assert (await make(api, headers)).status_code == 201
    bob = await api.create_user("bob@example.com")
    await api.login(bob)
    assert (await api.post("/me/tokens", json={"name": "x"})).status_code == 201
