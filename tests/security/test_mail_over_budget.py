"""An owner cannot be locked out by exhausting the mails of an address or the attempts at a link."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client
from tests.clocks import travel_to
from tests.security.peers import Service
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in

ALICE, BOB, NEW = "alice@example.com", "bob@example.com", "new@example.com"
OTHER = "another horse, another battery"
NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
HOME, AWAY = "192.0.2.1", "198.51.100.1"
LIMIT = 5
"""The default of `limit_mails`."""
RESET = timedelta(minutes=30)
"""The default lifetime of a reset link."""


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
    return await api.services.accounts.profiles.find(user.id)


async def ask(api: Client, path: str, count: int = LIMIT + 2) -> int:
    """Request mail to Alice. Returns the number of mails so far."""
    body = {"email": ALICE, "password": PASSWORD} if path == "/register" else {"email": ALICE}
    for _ in range(count):
        assert (await api.post(path, json=body)).status_code == 202
    return len(await mail_kinds(api.services, ALICE))


async def ask_change(api: Client, headers: Headers, email: str = NEW, count: int = 1) -> None:
    for _ in range(count):
        answer = await api.post("/me/email", json={"email": email}, headers=headers)
        assert answer.status_code == 202


async def changes(api: Client) -> int:
    return len(await mail_kinds(api.services, NEW))


@pytest.mark.parametrize(
    ("path", "minutes"), [("/password/forgot", 30), ("/email/confirm/request", 20)]
)
async def test_owner_always_has_a_valid_link(api: Client, path: str, minutes: int) -> None:
    with travel_to(NOON) as clock:
        await account(api, ALICE, confirmed=path == "/password/forgot")
        assert await ask(api, path) == LIMIT
        clock.shift(timedelta(minutes=minutes, seconds=-1))
        assert await ask(api, path) == LIMIT, "the last link still works"
        clock.shift(timedelta(seconds=2))
        assert await ask(api, path) == LIMIT + 1, (
            "one extra mail, regardless of the number of requests"
        )
        occasion = "reset" if path == "/password/forgot" else "confirm"
        secret = await secret_in(api.services, occasion, ALICE)
        if occasion == "reset":
            body = {"token": secret, "new_password": OTHER}
            answer = await api.post("/password/reset", json=body)
        else:
            answer = await api.post("/email/confirm", json={"token": secret, "password": PASSWORD})
        assert answer.status_code == 204


async def test_registrations_do_not_prevent_confirmation_links(api: Client) -> None:
    with travel_to(NOON) as clock:
        assert await ask(api, "/register") == LIMIT
        clock.shift(timedelta(minutes=21))
        assert await ask(api, "/register") == LIMIT + 1
        assert await ask(api, "/email/confirm/request") == 2 * LIMIT + 1, "a separate count"


async def test_owner_who_used_the_last_link_gets_another(api: Client) -> None:
    await account(api, ALICE)
    assert await ask(api, "/password/forgot") == LIMIT
    body = {"token": await secret_in(api.services, "reset", ALICE), "new_password": OTHER}
    assert (await api.post("/password/reset", json=body)).status_code == 204
    before = len(await mail_kinds(api.services, ALICE))
    assert await ask(api, "/password/forgot") == before + 1


async def test_recreated_accounts_get_one_mail_over_the_limit(api: Client) -> None:
    with travel_to(NOON) as clock:
        for _ in range(LIMIT + 3):
            user = await account(api, ALICE)
            await ask(api, "/password/forgot", 1)
            sent = len(await mail_kinds(api.services, ALICE))
            await api.services.accounts.deletion.delete(user.id)
            assert sent <= 1
        user = await account(api, ALICE)
        assert await ask(api, "/password/forgot") == 0, "the extra mail of this half hour is used"
        clock.shift(RESET)
        assert await ask(api, "/password/forgot") == 1


async def test_address_change_limit_does_not_block_another_account(api: Client) -> None:
    mallory = await sign_in(api.services, await account(api, "mallory@example.com"))
    bob = await sign_in(api.services, await account(api, BOB))
    await ask_change(api, mallory, count=LIMIT + 2)
    assert await changes(api) == LIMIT
    await ask_change(api, bob, count=LIMIT + 2)
    assert await changes(api) == LIMIT + 1
    secret = await secret_in(api.services, "change", NEW)
    assert (await api.post("/email/confirm", json={"token": secret}, headers=bob)).is_success
    assert (await api.services.accounts.profiles.find_by_email(parse_email(NEW))).email == NEW


async def test_alternating_addresses_does_not_send_more_mails(api: Client) -> None:
    mallory = await sign_in(api.services, await account(api, "mallory@example.com"))
    for _ in range(LIMIT + 3):
        await ask_change(api, mallory, NEW)
        await ask_change(api, mallory, "other@example.com")
    assert await changes(api) == LIMIT + 1


async def test_unconfirmed_accounts_send_no_mail_over_the_limit(api: Client) -> None:
    for number in range(LIMIT + 3):
        user = await account(api, f"mallory{number}@example.com", confirmed=False)
        await ask_change(api, await sign_in(api.services, user))
    assert await changes(api) == LIMIT


async def test_owner_of_a_requested_address_gets_no_mail_over_the_limit(api: Client) -> None:
    await account(api, NEW)
    for number in range(LIMIT + 3):
        user = await account(api, f"mallory{number}@example.com")
        await ask_change(api, await sign_in(api.services, user))
    assert await mail_kinds(api.services, NEW) == ["address_taken"] * LIMIT


@asynccontextmanager
async def mailing(database_url: str) -> AsyncIterator[Service]:
    """The application, with a low limit on attempts at a link from all networks together."""
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
    """A secret from a mail to Alice, for `path`."""
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
async def test_one_network_does_not_exhaust_attempts_at_a_link(
    database_url: str, path: str
) -> None:
    async with mailing(database_url) as service:
        secret = await link(service, path)
        assert await tries(service, AWAY, path, secret, 40) == [422] * 10 + [429] * 30
        assert await use(service, AWAY, path, secret) == 429
        assert await use(service, HOME, path, secret) == 204


@pytest.mark.parametrize("path", ["/email/confirm", "/email/undo"])
async def test_attempts_at_a_link_are_limited_over_all_networks(
    database_url: str, path: str
) -> None:
    async with mailing(database_url) as service:
        secret = await link(service, path)
        await tries(service, AWAY, path, secret, 40)
        assert await tries(service, HOME, path, secret, 4) == [422, 422, 429, 429]
        assert await use(service, HOME, path, secret) == 429
