"""Own columns and hooks of accounts."""

import pytest
from sqlalchemy import select

from authapi.testing import PASSWORD, Client


async def register(api: Client, handle: str, **profile: str) -> str:
    """Registers an account and logs in; returns its address."""
    body: dict[str, object] = {"email": f"{handle}@example.com", "password": PASSWORD}
    answer = await api.post(
        "/api/v1/auth/register", json={**body, "profile": {"handle": handle, **profile}}
    )
    assert answer.status_code == 201, answer.text
    login = await api.post("/api/v1/auth/login", json={**body, "strategy": "jwt"})
    api.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
    return f"{handle}@example.com"


async def test_an_account_has_a_profile_and_a_first_item(api: Client) -> None:
    await register(api, "ada", city="Bern")
    assert (await api.get("/api/v1/auth/me")).json()["profile"] == {"handle": "ada", "city": "Bern"}
    assert [i["title"] for i in (await api.get("/api/v1/items")).json()] == ["My first item"]
    changed = await api.patch("/api/v1/auth/me", json={"profile": {"city": None}})
    assert changed.json()["profile"] == {"handle": "ada", "city": None}


async def test_a_refused_registration_leaves_nothing(api: Client) -> None:
    await register(api, "first")
    body = {"email": "second@example.com", "password": PASSWORD}
    for profile, status in (({"handle": "first"}, 409), ({"handle": "No"}, 422), (None, 422)):
        answer = await api.post("/api/v1/auth/register", json={**body, "profile": profile})
        assert answer.status_code == status
    assert (await api.post("/api/v1/auth/login", json=body)).status_code == 401


async def test_a_lent_item_keeps_the_account(api: Client) -> None:
    await register(api, "lender")
    [item] = (await api.get("/api/v1/items")).json()
    url = f"/api/v1/items/{item['id']}"
    await api.patch(url, json={"lent_to": "Bob"})
    refused = await api.delete("/api/v1/auth/me")
    assert refused.status_code == 409
    assert refused.json()["detail"] == "an item is lent: take it back before you leave"
    assert (await api.get("/api/v1/auth/me")).json()["profile"]["handle"] == "lender"
    await api.patch(url, json={"lent_to": None})
    assert (await api.delete("/api/v1/auth/me")).status_code == 204


@pytest.mark.parametrize(("is_public", "left"), [(True, [(None,)]), (False, [])])
async def test_public_items_stay_when_their_owner_leaves(
    api: Client, is_public: bool, left: list[tuple[None]]
) -> None:
    from async_app.database import open_session
    from async_app.models import Item

    await register(api, f"leaver_{is_public}".lower())
    [item] = (await api.get("/api/v1/items")).json()
    title = f"Ladder {is_public}"
    await api.patch(f"/api/v1/items/{item['id']}", json={"title": title, "is_public": is_public})
    assert (await api.delete("/api/v1/auth/me")).status_code == 204
    async with open_session() as session:
        found = await session.execute(select(Item.owner_id).where(Item.title == title))
        assert [tuple(row) for row in found] == left
