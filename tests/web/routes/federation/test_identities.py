"""/me/identities and /admin/users/{user_id}/identities over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from authapi import create_app
from authapi.clock import now
from authapi.domain.federation.flow import FlowIntent
from authapi.domain.user import User
from authapi.testing import Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.services.federated_people import a_flow, a_link, a_person, caller_of
from tests.web.federation.visits import settings_with_providers
from tests.web.logins import Headers, sign_in
from tests.web.responses import problem

PATH = "/me/identities"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(settings_with_providers(database_url))) as found:
        yield found


@pytest.fixture
async def alice(api: Client) -> User:
    return await api.create_user("alice@example.com")


@pytest.fixture
async def headers(api: Client, alice: User) -> Headers:
    return await sign_in(api.services, alice)


async def link(api: Client, user: User, subject: str = "1") -> str:
    """Links a person to the account; returns the id of the link."""
    caller = await caller_of(api.services, user)
    person = a_person("ada@provider.example", subject=subject)
    flow = a_flow(FlowIntent.LINK, caller)
    return str((await api.services.federation.links.link(person, flow, caller)).id)


async def test_the_owner_lists_and_unlinks(api: Client, alice: User, headers: Headers) -> None:
    assert (await api.get(PATH, headers=headers)).json() == []
    key = await link(api, alice)
    [found] = (await api.get(PATH, headers=headers)).json()
    assert found.pop("created_at").endswith("Z")
    assert found == {
        "id": key,
        "provider": "acme",
        "issuer": "https://id.acme.example",
        "subject": "1",
        "email": "ada@provider.example",
        "email_verified": False,
        "name": "Ada Lovelace",
        "last_login_at": None,
    }
    exported = (await api.get("/me/export", headers=headers)).json()["identities"]
    assert [entry["id"] for entry in exported] == [key]
    problem(await api.delete(f"{PATH}/{uuid4()}", headers=headers), 404, "not_found")
    assert (await api.delete(f"{PATH}/{key}", headers=headers)).status_code == 204
    assert (await api.get(PATH, headers=headers)).json() == []


async def test_unlinking_needs_a_recent_login(api: Client, alice: User, headers: Headers) -> None:
    key = await link(api, alice)
    with travel_to(now() + timedelta(minutes=20)):
        assert (await api.get(PATH, headers=headers)).status_code == 200
        problem(await api.delete(f"{PATH}/{key}", headers=headers), 401, "stale_authentication")
    problem(await api.delete(f"{PATH}/{key}"), 401, "unauthenticated")
    token = await sign_in(api.services, alice, "token")
    problem(await api.get(PATH, headers=token), 401, "unauthenticated")


async def test_the_last_way_in_stays(api: Client, alice: User, headers: Headers) -> None:
    await link(api, alice)
    async with api.services.database.transaction() as store:
        await store.users.set_password(alice.id, None, at=now())
    [found] = (await api.get(PATH, headers=headers)).json()
    problem(await api.delete(f"{PATH}/{found['id']}", headers=headers), 409, "last_way_in")
    root = await api.create_user("root@example.com", is_superuser=True)
    admin, path = await sign_in(api.services, root), f"/admin/users/{alice.id}/identities"
    assert (await api.get(path, headers=admin)).json() == [found]
    assert (await api.delete(f"{path}/{found['id']}", headers=admin)).status_code == 204
    problem(await api.delete(f"{path}/{found['id']}", headers=admin), 404, "not_found")


async def test_administration_is_for_superusers(api: Client, alice: User, headers: Headers) -> None:
    key = await link(api, alice)
    path = f"/admin/users/{alice.id}/identities"
    problem(await api.get(path, headers=headers), 403, "superuser_required")
    problem(await api.delete(f"{path}/{key}", headers=headers), 403, "superuser_required")
    root = await api.create_user("root@example.com", is_superuser=True)
    admin = await sign_in(api.services, root)
    problem(await api.get(f"/admin/users/{uuid4()}/identities", headers=admin), 404, "not_found")
    own = f"/admin/users/{root.id}/identities/{await link(api, root, '2')}"
    problem(await api.delete(own, headers=admin), 403, "own_account")
    with travel_to(now() + timedelta(minutes=20)):
        problem(await api.get(path, headers=admin), 401, "stale_authentication")


async def test_without_providers_superusers_still_see_what_accounts_have(
    database_url: str, make_settings: SettingsFactory
) -> None:
    async with client(create_app(make_settings(database_url=database_url))) as api:
        user = await api.create_user("alice@example.com")
        linked = a_link(user.id)
        async with api.services.database.transaction() as store:
            await store.users.lock(user.id)
            await store.identities.add(linked, auth_context=None)
        document = (await api.get("/openapi.json")).json()["paths"]
        assert {path for path in document if "identities" in path} == {
            "/admin/users/{user_id}/identities",
            "/admin/users/{user_id}/identities/{identity_id}",
        }
        assert not [path for path in document if "/with" in path]
        own = await sign_in(api.services, user)
        assert (await api.get(PATH, headers=own)).status_code == 404
        exported = (await api.get("/me/export", headers=own)).json()
        assert [it["id"] for it in exported["identities"]] == [str(linked.id)]
        root = await sign_in(api.services, await api.create_user(is_superuser=True))
        path = f"/admin/users/{user.id}/identities"
        [found] = (await api.get(path, headers=root)).json()
        assert found["id"] == str(linked.id)
        assert (await api.delete(f"{path}/{linked.id}", headers=root)).status_code == 204
        assert (await api.get(path, headers=root)).json() == []
