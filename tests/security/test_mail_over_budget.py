"""Who uses up the mails of an address, or the tries at a link, does not keep its owner out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.identity import User
from authapi.services.addresses import parse_email
from authapi.testing import PASSWORD, Client
from tests.clocks import time_passes
from tests.security.peers import Service
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, occasions, secret_in

ALICE, BOB, NEW = "alice@example.com", "bob@example.com", "new@example.com"
OTHER = "another horse, another battery"
NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
HOME, AWAY = "192.0.2.1", "198.51.100.1"
LIMIT = 5
"""The default of `limit_mails`."""
RESET = timedelta(minutes=30)
"""The default lifetime of a link that resets."""


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        registration="confirm",
        confirm_lifetime=timedelta(minutes=20),
        limit_registrations="1000/minute",
    )
    async with client_with_mailbox(settings) as found:
        yield found


async def account(api: Client, email: str, *, confirmed: bool = True) -> User:
    user = await api.create_user(email)
    if confirmed:
        async with api.services.database.transaction() as store:
            await store.users.confirm_email(user.id, at=now())
    return await api.services.accounts.find(user.id)


async def ask(api: Client, path: str, count: int = LIMIT + 2) -> int:
    """Ask for mail to Alice; how many there are by now."""
    body = {"email": ALICE, "password": PASSWORD} if path == "/register" else {"email": ALICE}
    for _ in range(count):
        assert (await api.post(path, json=body)).status_code == 202
    return len(await occasions(api.services, ALICE))


async def ask_change(api: Client, headers: Headers, email: str = NEW, count: int = 1) -> None:
    for _ in range(count):
        answer = await api.post("/me/email", json={"email": email}, headers=headers)
        assert answer.status_code == 202


async def changes(api: Client) -> int:
    return len(await occasions(api.services, NEW))


@pytest.mark.parametrize(
    ("path", "minutes"), [("/password/forgot", 30), ("/email/confirm/request", 20)]
)
async def test_an_owner_is_never_without_a_link(api: Client, path: str, minutes: int) -> None:
    with time_passes(NOON) as clock:
        await account(api, ALICE, confirmed=path == "/password/forgot")
        assert await ask(api, path) == LIMIT
        clock.shift(timedelta(minutes=minutes, seconds=-1))
        assert await ask(api, path) == LIMIT, "the last link still works"
        clock.shift(timedelta(seconds=2))
        assert await ask(api, path) == LIMIT + 1, "one, however often it is asked for"
        occasion = "reset" if path == "/password/forgot" else "confirm"
        secret = await secret_in(api.services, occasion, ALICE)
        if occasion == "reset":
            body = {"token": secret, "new_password": OTHER}
            answer = await api.post("/password/reset", json=body)
        else:
            answer = await api.post("/email/confirm", json={"token": secret, "password": PASSWORD})
        assert answer.status_code == 204


async def test_registrations_do_not_leave_an_owner_without_a_link(api: Client) -> None:
    with time_passes(NOON) as clock:
        assert await ask(api, "/register") == LIMIT
        clock.shift(timedelta(minutes=21))
        assert await ask(api, "/register") == LIMIT + 1
        assert await ask(api, "/email/confirm/request") == 2 * LIMIT + 1, "a count of its own"


async def test_an_owner_who_used_the_last_link_gets_another(api: Client) -> None:
    await account(api, ALICE)
    assert await ask(api, "/password/forgot") == LIMIT
    body = {"token": await secret_in(api.services, "reset", ALICE), "new_password": OTHER}
    assert (await api.post("/password/reset", json=body)).status_code == 204
    before = len(await occasions(api.services, ALICE))
    assert await ask(api, "/password/forgot") == before + 1


async def test_accounts_made_again_and_again_get_one_mail_over_the_limit(api: Client) -> None:
    with time_passes(NOON) as clock:
        for _ in range(LIMIT + 3):
            user = await account(api, ALICE)
            await ask(api, "/password/forgot", 1)
            sent = len(await occasions(api.services, ALICE))
            await api.services.accounts.delete(user.id)
            assert sent <= 1
        user = await account(api, ALICE)
        assert await ask(api, "/password/forgot") == 0, "the one of this half hour is used up"
        clock.shift(RESET)
        assert await ask(api, "/password/forgot") == 1


async def test_one_account_does_not_use_up_what_another_asks_for(api: Client) -> None:
    mallory = await sign_in(api.services, await account(api, "mallory@example.com"))
    bob = await sign_in(api.services, await account(api, BOB))
    await ask_change(api, mallory, count=LIMIT + 2)
    assert await changes(api) == LIMIT
    await ask_change(api, bob, count=LIMIT + 2)
    assert await changes(api) == LIMIT + 1
    secret = await secret_in(api.services, "change", NEW)
    assert (await api.post("/email/confirm", json={"token": secret}, headers=bob)).is_success
    assert (await api.services.accounts.find_by_email(parse_email(NEW))).email == NEW


async def test_an_account_cannot_alternate_addresses_to_send_more(api: Client) -> None:
    mallory = await sign_in(api.services, await account(api, "mallory@example.com"))
    for _ in range(LIMIT + 3):
        await ask_change(api, mallory, NEW)
        await ask_change(api, mallory, "other@example.com")
    assert await changes(api) == LIMIT + 1


async def test_accounts_that_confirmed_nothing_send_no_more(api: Client) -> None:
    for number in range(LIMIT + 3):
        user = await account(api, f"mallory{number}@example.com", confirmed=False)
        await ask_change(api, await sign_in(api.services, user))
    assert await changes(api) == LIMIT


async def test_the_owner_of_an_address_that_is_asked_for_is_told_no_more(api: Client) -> None:
    await account(api, NEW)
    for number in range(LIMIT + 3):
        user = await account(api, f"mallory{number}@example.com")
        await ask_change(api, await sign_in(api.services, user))
    assert await occasions(api.services, NEW) == ["address_taken"] * LIMIT


@asynccontextmanager
async def mailing(database_url: str) -> AsyncIterator[Service]:
    """The application, where few tries at one link are let through from all networks together."""
    settings = Settings(database_url=database_url, limit_account="12/hour")  # type: ignore[arg-type]
    app = create_app(settings)
    async with client_with_mailbox(settings, app) as found:
        yield Service(app, found, "http://127.0.0.1:8000")


async def tries(service: Service, network: str, path: str, secret: str, count: int) -> list[int]:
    async with service.at(network) as visitor:
        body = {"token": secret, "email": "wrong@example.com"}
        return [(await visitor.post(path, json=body)).status_code for _ in range(count)]


async def use(service: Service, network: str, path: str, secret: str) -> int:
    async with service.at(network) as visitor:
        answer = await visitor.post(path, json={"token": secret, "email": ALICE})
        return answer.status_code


async def link(service: Service, path: str) -> str:
    """What confirms or undoes something for Alice."""
    api = service.api
    if path == "/email/confirm":
        await account(api, ALICE, confirmed=False)
        await api.post("/email/confirm/request", json={"email": ALICE})
        return await secret_in(api.services, "confirm", ALICE)
    headers = await sign_in(api.services, await account(api, ALICE))
    await ask_change(api, headers)
    secret = await secret_in(api.services, "change", NEW)
    assert (await api.post("/email/confirm", json={"token": secret}, headers=headers)).is_success
    return await secret_in(api.services, "email_changed", ALICE)


@pytest.mark.parametrize("path", ["/email/confirm", "/email/undo"])
async def test_one_network_does_not_use_up_the_tries_at_a_link(
    database_url: str, path: str
) -> None:
    async with mailing(database_url) as service:
        secret = await link(service, path)
        assert await tries(service, AWAY, path, secret, 40) == [422] * 10 + [429] * 30
        assert await use(service, AWAY, path, secret) == 429
        assert await use(service, HOME, path, secret) == 204


@pytest.mark.parametrize("path", ["/email/confirm", "/email/undo"])
async def test_networks_together_have_a_wider_bound(database_url: str, path: str) -> None:
    async with mailing(database_url) as service:
        secret = await link(service, path)
        await tries(service, AWAY, path, secret, 40)
        assert await tries(service, HOME, path, secret, 4) == [422, 422, 429, 429]
        assert await use(service, HOME, path, secret) == 429
