"""GET /me/events lists the events of the own account, in pages."""

from typing import Any
from uuid import UUID

import pytest

from authapi.crypto.ids import new_id
from authapi.domain.events import EventType
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client


@pytest.fixture
async def api(api_on_each: Client) -> Client:
    return api_on_each


@pytest.fixture
async def alice(api: Client) -> User:
    user = await api.create_user("alice@example.com")
    await api.login(user)
    return user


async def page(api: Client, **parameters: object) -> dict[str, Any]:
    response = await api.get("/me/events", params={k: str(v) for k, v in parameters.items()})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert set(body) == {"items", "next"}
    return body


async def write(api: Client, owner: UUID | None, count: int) -> None:
    audit, database = api.services.audit, api.services.database
    async with database.transaction() as store:
        for _ in range(count):
            await audit.record(store, EventType.ACCOUNT_RENAMED, user_id=owner)


async def test_an_event_is_complete(api: Client, alice: User) -> None:
    api.headers["user-agent"] = "a browser/1.0"
    response = await api.patch("/me", json={"name": "Alice"})
    newest = (await page(api))["items"][0]
    assert newest.pop("id")
    assert newest.pop("at").endswith("Z")
    assert newest == {
        "type": "account_renamed",
        "outcome": "success",
        "session_id": None,
        "strategy": None,
        "ip": "127.0.0.1",
        "user_agent": "a browser/1.0",
        "request_id": response.headers["x-request-id"],
        "detail": {},
    }


async def test_only_own_events_are_listed(api: Client, alice: User) -> None:
    bob = await api.create_user("bob@example.com")
    await write(api, bob.id, 3)
    await write(api, None, 3)
    await api.post("/login", json={"email": alice.email, "password": PASSWORD + "!"})
    kinds = [item["type"] for item in (await page(api))["items"]]
    assert sorted(kinds) == ["account_registered", "login", "login_refused"]


async def test_pages_are_stable_while_events_arrive(api: Client, alice: User) -> None:
    await write(api, alice.id, 23)
    before = {item["id"] for item in (await page(api, limit=200))["items"]}
    assert len(before) == 25
    seen: list[str] = []
    step = await page(api, limit=7)
    while True:
        seen += [item["id"] for item in step["items"]]
        await write(api, alice.id, 2)
        if step["next"] is None:
            break
        step = await page(api, limit=7, before=step["next"])
    assert len(seen) == len(set(seen))
    assert set(seen) == before
    assert seen == sorted(seen, reverse=True)


async def test_a_full_last_page_is_followed_by_an_empty_page(api: Client, alice: User) -> None:
    await write(api, alice.id, 4)  # six, with registration and login
    first = await page(api, limit=6)
    assert (len(first["items"]), first["next"]) == (6, first["items"][-1]["id"])
    assert await page(api, limit=6, before=first["next"]) == {"items": [], "next": None}


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1e2", "x", "", "9" * 30])
async def test_limits_out_of_bounds_are_refused(api: Client, alice: User, limit: str) -> None:
    response = await api.get("/me/events", params={"limit": limit})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["query", "limit"]


@pytest.mark.parametrize("before", ["nonsense", "1 or 1=1", "00000000-0000-0000-0000-00000000000g"])
async def test_invalid_cursors_are_refused(api: Client, alice: User, before: str) -> None:
    response = await api.get("/me/events", params={"before": before})
    assert response.status_code == 422
    assert before not in response.text


async def test_limits_at_the_bounds_are_accepted(api: Client, alice: User) -> None:
    await write(api, alice.id, 210)
    assert len((await page(api, limit=1))["items"]) == 1
    assert len((await page(api, limit=200))["items"]) == 200
    assert len((await page(api))["items"]) == 50


async def test_a_cursor_of_another_account_reveals_nothing(api: Client, alice: User) -> None:
    await write(api, alice.id, 2)
    mine = (await page(api))["items"]
    bob = await api.create_user("bob@example.com")
    await write(api, bob.id, 2)
    async with api.services.database.read() as store:
        theirs = (await store.events.page(bob.id, before=None, limit=1))[0].id
    assert (await page(api, before=theirs))["items"] == mine
    assert (await page(api, before=new_id()))["items"] == mine
    assert (await page(api, before=UUID(int=0)))["items"] == []


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_each_kind_of_login_can_list_events(api: Client, strategy: str) -> None:
    alice = await api.create_user("alice@example.com")
    await api.login(alice, strategy=strategy)
    assert [item["strategy"] for item in (await page(api))["items"] if item["strategy"]] == [
        strategy
    ]


async def test_personal_tokens_and_unauthenticated_callers_are_refused(api: Client) -> None:
    assert (await api.get("/me/events")).status_code == 401
    alice = await api.create_user("alice@example.com")
    await api.login(alice, strategy="token")
    assert (await api.get("/me/events")).status_code == 401


async def test_responses_are_not_cached(api: Client, alice: User) -> None:
    response = await api.get("/me/events")
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_events_cannot_be_changed(api: Client, alice: User, method: str) -> None:
    response = await api.request(method, "/me/events")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
