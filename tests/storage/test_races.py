"""Many requests at once for the same thing, over HTTP."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from authapi import Settings, create_app
from authapi.testing import PASSWORD, Client, client
from tests.storage.rows import sql

SPELLINGS = [
    "".join(letters)
    for letters in itertools.product("aA", "lL", "iI", "cC", "eE", ["@Example.com", "@EXAMPLE.COM"])
]


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """The shipped app, where fifty may wait for a hash."""
    settings = Settings(database_url=database_url, hash_queue=200)  # type: ignore[arg-type]
    async with client(create_app(settings)) as found:
        yield found


def register(api: Client, email: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(api.post("/register", json={"email": email, "password": PASSWORD}))


async def test_of_fifty_registrations_of_one_address_one_is_made(
    api: Client, database_url: str
) -> None:
    tasks = [register(api, email) for email in SPELLINGS[:50]]
    with anyio.fail_after(60):
        answers = await asyncio.gather(*tasks)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {
        "email_taken"
    }
    assert sql(database_url, "SELECT email FROM users") == [("alice@example.com",)]


async def test_a_name_changed_by_many_at_once_is_changed_by_one(api: Client) -> None:
    await api.login(await api.create_user())
    condition = {"if-match": (await api.get("/me")).headers["etag"]}
    answers = await asyncio.gather(
        *(api.patch("/me", json={"name": f"name {n}"}, headers=condition) for n in range(20))
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 19}
    [changed] = [answer.json() for answer in answers if answer.status_code == 200]
    assert (await api.get("/me")).json() == changed


async def test_data_merged_by_many_at_once_is_all_there(api: Client) -> None:
    await api.login(await api.create_user())
    answers = await asyncio.gather(
        *(api.patch("/me/session", json={f"member_{n}": n}) for n in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    data = (await api.get("/me/session")).json()["data"]
    assert data == {f"member_{n}": n for n in range(20)}


async def test_one_session_ended_by_many_at_once_is_ended_by_one(api: Client) -> None:
    user = await api.create_user()
    await api.login(user)
    other = (await api.get("/me/identity")).json()["session_id"]
    await api.login(user, strategy="jwt")
    answers = await asyncio.gather(*(api.delete(f"/me/sessions/{other}") for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {204: 1, 404: 19}


async def test_one_connection_is_enough_for_fifty_at_once(database_url: str) -> None:
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
