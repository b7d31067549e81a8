"""Many concurrent requests for the same resource over HTTP."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from authapi import Settings, create_app
from authapi.testing import PASSWORD, Client, client
from tests.storage.rows import sql
from tests.web.logins import sign_in

pytestmark = pytest.mark.real_hashes

SPELLINGS = [
    "".join(letters)
    for letters in itertools.product("aA", "lL", "iI", "cC", "eE", ["@Example.com", "@EXAMPLE.COM"])
]


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """The application with limits that allow fifty concurrent requests."""
    limits: dict[str, Any] = {
        "hash_queue": 200,
        "limit_registrations": "50/minute",
        "max_personal_tokens": 100_000,
        "limit_writes": "100000/minute",
    }
    settings = Settings(database_url=database_url, **limits)  # type: ignore[arg-type]
    async with client(create_app(settings)) as found:
        yield found


def register(api: Client, email: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(api.post("/register", json={"email": email, "password": PASSWORD}))


async def test_one_of_fifty_concurrent_registrations_of_an_address_succeeds(
    api: Client, database_url: str
) -> None:
    tasks = [register(api, email) for email in SPELLINGS[:50]]
    with anyio.fail_after(60):
        answers = await asyncio.gather(*tasks)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {
        "email_taken"
    }
    assert sql(database_url, "SELECT email FROM authapi_users") == [("alice@example.com",)]


async def test_one_of_many_concurrent_name_changes_succeeds(api: Client) -> None:
    await api.login(await api.create_user())
    condition = {"if-match": (await api.get("/me")).headers["etag"]}
    answers = await asyncio.gather(
        *(api.patch("/me", json={"name": f"name {n}"}, headers=condition) for n in range(20))
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 19}
    [changed] = [answer.json() for answer in answers if answer.status_code == 200]
    assert (await api.get("/me")).json() == changed


async def test_concurrently_merged_data_is_complete(api: Client) -> None:
    await api.login(await api.create_user())
    answers = await asyncio.gather(
        *(api.patch("/me/session", json={f"member_{n}": n}) for n in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    data = (await api.get("/me/session")).json()["data"]
    assert data == {f"member_{n}": n for n in range(20)}


async def test_session_is_ended_once_by_many_concurrent_calls(api: Client) -> None:
    user = await api.create_user()
    await api.login(user)
    other = (await api.get("/me/identity")).json()["session_id"]
    await api.login(user, strategy="jwt")
    answers = await asyncio.gather(*(api.delete(f"/me/sessions/{other}") for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {204: 1, 404: 19}


async def test_one_connection_serves_fifty_concurrent_requests(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        database_pool_size=1,
        database_pool_timeout=60,
        database_timeout=60,
        hash_queue=200,
    )
    async with client(create_app(settings)) as api:
        user = await api.create_user()
        await api.login(user)
        login = {"email": user.email, "password": PASSWORD}
        calls = [
            *[register(api, f"user.{n}@example.com") for n in range(10)],
            *[
                asyncio.create_task(api.post("/login", json={**login, "strategy": strategy}))
                for strategy in ("token", "jwt")
                for _ in range(5)
            ],
            *[asyncio.create_task(api.get(path)) for path in ("/me", "/me/sessions") * 10],
            *[asyncio.create_task(api.patch("/me", json={"name": str(n)})) for n in range(10)],
        ]
        with anyio.fail_after(60):
            answers = await asyncio.gather(*calls)
        assert Counter(answer.status_code for answer in answers) == {200: 40, 201: 10}


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False], ids=["this session", "another session"])
async def test_no_token_survives_a_concurrent_password_change(api: Client, same: bool) -> None:
    user, password = await api.create_user(), PASSWORD
    for number in range(20):
        # Only the change must overlap, so these logins do not hash a password.
        maker = await sign_in(api.services, user)
        owner = maker if same else await sign_in(api.services, user)
        begun = asyncio.Event()
        making = asyncio.create_task(make_tokens(api, maker, begun))
        await begun.wait()
        change = {"current_password": password, "new_password": f"{PASSWORD} {number}"}
        changed = await api.post("/me/password", json=change, headers=owner)
        assert changed.status_code == 204
        password = change["new_password"]
        for token in await making:
            answer = await api.get("/me", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 401, f"round {number}"


async def make_tokens(api: Client, headers: dict[str, str], begun: asyncio.Event) -> list[str]:
    """Creates personal access tokens one after another until the session has ended."""
    made: list[str] = []
    while True:
        answer = await api.post("/me/tokens", json={"name": "x"}, headers=headers)
        begun.set()
        if answer.status_code == 401:
            return made
        made.append(answer.json()["access_token"])
