"""/admin/users/{user_id}/sessions and .../tokens: list and end what lets a person in."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from authapi import Settings, create_app
from authapi.testing import Client, client
from tests.web.logins import Headers, sign_in
from tests.web.responses import problem


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        yield found


async def superuser(api: Client) -> Headers:
    root = await api.create_user("root@example.com", is_superuser=True)
    return await sign_in(api.services, root)


async def test_logins_and_tokens_are_listed_and_ended(api: Client) -> None:
    root = await superuser(api)
    alice = await api.create_user("alice@example.com")
    headers = await sign_in(api.services, alice)
    made = await api.post("/me/tokens", json={"name": "script"}, headers=headers)
    path = f"/admin/users/{alice.id}"
    [login] = (await api.get(f"{path}/sessions", headers=root)).json()
    [token] = (await api.get(f"{path}/tokens", headers=root)).json()
    assert (login["current"], token["id"], token["name"]) == (False, made.json()["id"], "script")
    assert "access_token" not in token
    for what, found in (("sessions", login), ("tokens", token)):
        assert (await api.delete(f"{path}/{what}/{found['id']}", headers=root)).status_code == 204
        problem(await api.delete(f"{path}/{what}/{found['id']}", headers=root), 404, "not_found")
        assert (await api.get(f"{path}/{what}", headers=root)).json() == []
        problem(await api.get(f"/admin/users/{uuid4()}/{what}", headers=root), 404, "not_found")
    assert (await api.get("/me", headers=headers)).status_code == 401


async def test_ending_the_own_login_deletes_its_cookie(api: Client) -> None:
    root = await superuser(api)
    user = (await api.get("/me", headers=root)).json()
    [login] = (await api.get(f"/admin/users/{user['id']}/sessions", headers=root)).json()
    path = f"/admin/users/{user['id']}/sessions/{login['id']}"
    ended = await api.delete(path, headers=root)
    assert ended.status_code == 204
    assert 'authapi=""' in ended.headers["set-cookie"] or "Max-Age=0" in ended.headers["set-cookie"]
    assert (await api.get("/me", headers=root)).status_code == 401
