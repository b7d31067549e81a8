"""/admin/users/{user_id}/factors over HTTP, on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.second_factors import SecondFactors, add_second_factors
from tests.services.identity_cache.test_invalidation import eventually
from tests.web.logins import Headers, sign_in
from tests.web.responses import problem


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]  # pydantic parses it
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def root(api: Client) -> User:
    return await api.create_user("root@example.com", is_superuser=True)


@pytest.fixture
async def headers(api: Client, root: User) -> Headers:
    return await sign_in(api.services, root)


@pytest.fixture
async def alice(api: Client) -> SecondFactors:
    return await add_second_factors(api.services, await api.create_user("alice@example.com"))


async def test_a_superuser_sees_factors_without_secrets(
    api: Client, headers: Headers, alice: SecondFactors
) -> None:
    async with api.services.database.transaction() as store:
        factor = await store.totp_factors.find(alice.user.id)
        assert factor is not None
        await store.users.lock(alice.user.id)
        await store.totp_factors.use(factor.id, step=1, at=factor.created_at)
    shown = (await api.get(f"/admin/users/{alice.user.id}/factors", headers=headers)).json()
    assert (shown["mfa"], shown["required"]) == (True, False)
    assert shown["recovery_codes"]["left"] == 10
    assert shown["totp"].keys() == {"id", "created_at", "confirmed_at", "last_used_at"}
    text = json.dumps(shown)
    assert not any(secret in text for secret in (alice.app.secret, *alice.codes))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_factors_are_for_recent_logins_that_have_proved_the_own_factor(
    api: Client, root: User, headers: Headers, alice: SecondFactors, method: str
) -> None:
    path = f"/admin/users/{alice.user.id}/factors"
    with travel_to(now() + timedelta(minutes=6)):
        problem(await api.request(method, path, headers=headers), 401, "stale_authentication")
    await add_second_factors(api.services, root)
    headers = await sign_in(api.services, root)
    refused = await api.request(method, path, headers=headers)
    problem(refused, 401, "insufficient_authentication")
    for other in ({}, await sign_in(api.services, alice.user)):
        assert (await api.request(method, path, headers=other)).status_code in {401, 403}


async def test_a_reset_ends_factors_and_logins_and_tells_the_owner(
    api: Client, root: User, headers: Headers, alice: SecondFactors
) -> None:
    logins = [await sign_in(api.services, alice.user, item) for item in ("session", "jwt")]
    for login in logins:
        assert (await api.get("/me", headers=login)).status_code == 200
    done = await api.delete(f"/admin/users/{alice.user.id}/factors", headers=headers)
    assert (done.status_code, done.content) == (204, b"")
    for login in logins:
        problem(await api.get("/me", headers=login), 401, "unauthenticated")
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": "token"}
    assert (await api.post("/login", json=body)).status_code == 200
    # The owner sees that a superuser did it, and not from where.
    own = await sign_in(api.services, alice.user)
    events = (await api.get("/me/events", headers=own)).json()["items"]
    [event] = [item for item in events if item["type"] == "factors_reset"]
    assert event["ip"] is None
    found = await api.get(f"/admin/events?user={alice.user.id}&type=factors_reset", headers=headers)
    assert [item["actor_id"] for item in found.json()["items"]] == [str(root.id)]
    [mail] = [mail for mail in await api.outbox() if mail["To"] == "alice@example.com"]
    assert mail["Subject"] == "The second factors of your account were reset"


@pytest.mark.parametrize("locale", ["en", "ko"])
async def test_the_mail_is_in_the_language_of_the_owner(
    api: Client, headers: Headers, alice: SecondFactors, locale: str
) -> None:
    own = await sign_in(api.services, alice.user)
    assert (await api.patch("/me", json={"locale": locale}, headers=own)).status_code == 200
    await api.delete(f"/admin/users/{alice.user.id}/factors", headers=headers)
    [mail] = [mail for mail in await api.outbox() if mail["To"] == "alice@example.com"]
    body = mail.get_body(("plain",))
    assert body is not None
    assert ("관리자" in body.get_content()) == (locale == "ko")


async def test_superusers_do_not_reset_their_own_factors(
    api: Client, root: User, headers: Headers
) -> None:
    answer = await api.delete(f"/admin/users/{root.id}/factors", headers=headers)
    problem(answer, 403, "own_account")


async def test_a_reset_ends_identities_in_the_cache_of_another_process(
    postgres_url: str,
) -> None:
    settings = Settings(
        database_url=postgres_url,  # type: ignore[arg-type]  # pydantic parses it
        mail_url=SecretStr("none:"),
    )
    async with client(create_app(settings)) as here, client(create_app(settings)) as there:
        root = await here.create_user("root@example.com", is_superuser=True)
        headers = await sign_in(here.services, root)
        user = (
            await add_second_factors(here.services, await here.create_user("alice@example.com"))
        ).user
        login = await sign_in(here.services, user, "token")
        await eventually(there.services.invalidation.is_current)
        async with asyncio.timeout(10):
            # A late notification of the login would invalidate the entry again.
            while len(there.services.identity_cache) == 0:
                assert (await there.get("/me", headers=login)).status_code == 200
        cache = there.services.identity_cache
        snapshot = cache.snapshot()
        done = await here.delete(f"/admin/users/{user.id}/factors", headers=headers)
        assert done.status_code == 204
        await eventually(lambda: cache.has_changed(user.id, since=snapshot))
        problem(await there.get("/me", headers=login), 401, "unauthenticated")
