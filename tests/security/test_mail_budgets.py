"""Mails caused by unauthenticated clients are counted by purpose, and only if a mail is queued."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from cachetools import TTLCache

from authapi import Settings
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.user import User
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.mail import MailKind
from authapi.services.mail.delivery import _Counter
from authapi.storage import Store
from authapi.testing import PASSWORD, Client
from tests.clocks import MonotonicClock
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in, sent_mail

ALICE = "alice@example.com"
NEW = "another horse, another battery"
LIMIT = 5
"""The default of `limit_mails`."""


async def serve(url: str, **changes: object) -> AsyncIterator[Client]:
    values: dict[str, object] = {"limit_registrations": "1000/minute", **changes}
    settings = Settings(database_url=url, **values)  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as found:
        yield found


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """Registration requires a confirmed address."""
    async for found in serve(database_url, registration="confirm"):
        yield found


@pytest.fixture
async def open_api(database_url: str) -> AsyncIterator[Client]:
    """Open registration."""
    async for found in serve(database_url, registration="open"):
        yield found


async def account(api: Client, email: str = ALICE, *, confirmed: bool = True) -> User:
    user = await api.create_user(email)
    if confirmed:
        async with api.services.database.transaction() as store:
            await store.users.confirm_email(user.id, at=now())
    return await api.services.accounts.profiles.find(user.id)


async def forgot(api: Client) -> None:
    assert (await api.post("/password/forgot", json={"email": ALICE})).status_code == 202


async def forgot_page(api: Client) -> None:
    assert (await api.post("/account/forgot", data={"email": ALICE})).status_code == 303


async def confirmation(api: Client) -> None:
    assert (await api.post("/email/confirm/request", json={"email": ALICE})).status_code == 202


async def register(api: Client) -> None:
    body = {"email": ALICE, "password": PASSWORD}
    assert (await api.post("/register", json=body)).status_code in (201, 202, 409)


async def change(api: Client) -> None:
    """Another account requests a change to the address."""
    headers = await sign_in(api.services, await api.create_user())
    answer = await api.post("/me/email", json={"email": ALICE}, headers=headers)
    assert answer.status_code == 202


async def notice(api: Client) -> None:
    """The account that registered the address creates a token."""
    user = await api.services.accounts.profiles.find_by_email(parse_email(ALICE))
    headers = await sign_in(api.services, user)
    answer = await api.post("/me/tokens", json={"name": "script"}, headers=headers)
    assert answer.status_code == 201


Ask = Callable[[Client], Awaitable[None]]
ASKS: tuple[Ask, ...] = (forgot, confirmation, register, change, notice)


async def mails(api: Client) -> Counter[str]:
    return Counter(await mail_kinds(api.services, ALICE))


async def several(api: Client, ask: Ask, count: int = LIMIT + 3) -> None:
    for _ in range(count):
        await ask(api)
    await sent_mail(api.services)  # waits until all requests are done


async def test_confirmation_requests_do_not_prevent_recovery(api: Client) -> None:
    await account(api)
    await several(api, confirmation)
    assert await mails(api) == {}
    await several(api, forgot)
    assert await mails(api) == {"reset": LIMIT}


@pytest.mark.parametrize("used_up", ASKS, ids=lambda ask: ask.__name__)
async def test_mail_purposes_have_separate_limits(api: Client, used_up: Ask) -> None:
    await account(api, confirmed=False)
    await several(api, used_up)
    before = await mails(api)
    assert before.total() == LIMIT, "mails for one purpose are limited"
    for ask in ASKS:
        had = await mails(api)
        await ask(api)
        assert (await mails(api) - had).total() == (ask is not used_up), ask.__name__


async def test_all_mail_to_one_address_is_bounded(api: Client) -> None:
    await account(api)
    for ask in (*ASKS[:-1], forgot_page):
        await several(api, ask)
    # A confirmed address needs no confirmation. Registrations and changes of address both send
    # `address_taken`, with separate limits.
    assert await mails(api) == {"reset": LIMIT, "address_taken": 2 * LIMIT}


async def test_spellings_of_an_address_share_one_mail_limit(api: Client) -> None:
    await account(api)
    for email in (ALICE.upper(), "Alice@Example.com", "alice@EXAMPLE.com") * 3:
        await api.post("/password/forgot", json={"email": email})
    assert await mails(api) == {"reset": LIMIT}


@pytest.mark.parametrize("ask", [forgot, confirmation])
async def test_requests_for_an_unknown_address_consume_no_mails(api: Client, ask: Ask) -> None:
    await several(api, ask)
    await account(api, confirmed=False)
    await several(api, ask)
    assert (await mails(api)).total() == LIMIT


async def test_requests_for_a_deactivated_account_consume_no_mails(api: Client) -> None:
    user = await account(api)
    await api.services.accounts.administration.change(user.id, {"is_active": False})
    for ask in (forgot, register, change):
        await several(api, ask)
    assert await mails(api) == {}
    await api.services.accounts.administration.change(user.id, {"is_active": True})
    for ask in (forgot, register, change):
        await ask(api)
    assert await mails(api) == {"reset": 1, "address_taken": 2}


async def test_requests_for_a_reserved_address_consume_no_mails(api: Client) -> None:
    other = await account(api, "other@example.com")
    email_tokens = EmailTokens(api.services.database, api.services.mail, api.services.settings)
    async with api.services.database.transaction() as store:
        await store.users.lock(other.id)
        await email_tokens.issue(
            store, other, Purpose.REVERT_EMAIL_CHANGE, email=parse_email(ALICE)
        )
    for ask in (register, change):
        await several(api, ask)
    assert await mails(api) == {}
    async with api.services.database.transaction() as store:
        await store.users.lock(other.id)
        await store.email_tokens.delete_for_user(other.id, [Purpose.REVERT_EMAIL_CHANGE])
    for ask in (register, change):
        await ask(api)
    assert await mails(api) == {"confirm": 1, "address_taken": 1}


async def test_rejected_open_registration_consumes_no_mail(open_api: Client) -> None:
    user = await account(open_api)
    await several(open_api, register)
    await open_api.services.accounts.deletion.delete(user.id)
    await register(open_api)
    assert await mails(open_api) == {"confirm": 1}


async def test_repeated_registrations_of_an_address_send_limited_mails(open_api: Client) -> None:
    sent = 0
    for _ in range(LIMIT + 3):
        await register(open_api)
        sent += (await mails(open_api))["confirm"]
        found = await open_api.services.accounts.profiles.find_by_email(parse_email(ALICE))
        await open_api.services.accounts.deletion.delete(found.id)
    assert sent == LIMIT


async def test_request_over_the_limit_keeps_the_last_link_valid(api: Client) -> None:
    await account(api)
    await several(api, forgot)
    secret = await secret_in(api.services, "reset", ALICE)
    body = {"token": secret, "new_password": NEW}
    assert (await api.post("/password/reset", json=body)).status_code == 204


async def test_retried_request_counts_once(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await account(api)
    await api.services.outbox.stop()
    await forgot(api)
    async with api.services.database.read() as store:
        [entry] = await store.outbox.page(after=None, limit=10)
    payload = api.services.outbox.decrypt_payload(entry)

    async def fails(*_: object, **__: object) -> bool:
        raise OSError("before the commit")

    with monkeypatch.context() as patch:
        patch.setattr("authapi.storage.tables.outbox.OutboxTable.complete", fails)
        for _ in range(LIMIT + 3):
            with pytest.raises(OSError, match="before the commit"):
                await api.services.accounts.deferred_requests.handle(entry, payload)
    for _ in range(3):  # two of them exceed the limit
        await api.services.accounts.deferred_requests.handle(entry, payload)
    await several(api, forgot)
    assert await mails(api) == {"reset": LIMIT}


async def test_notices_to_an_unconfirmed_address_are_limited(api: Client) -> None:
    for number in range(LIMIT + 2):
        user = await account(api, confirmed=False)
        headers = await sign_in(api.services, user)
        body = {"email": f"mallory{number}@example.com"}
        assert (await api.post("/me/email", json=body, headers=headers)).status_code == 202
        secret = await secret_in(api.services, "change", body["email"])
        answer = await api.post("/email/confirm", json={"token": secret}, headers=headers)
        assert answer.status_code == 204
    assert await mails(api) == {"email_changed": LIMIT}


async def test_each_kind_of_notice_has_its_own_limit(api: Client) -> None:
    user = await account(api, confirmed=False)
    await several(api, notice)
    await api.services.accounts.passwords.set(user.id, NEW)
    assert await mails(api) == {"token_created": LIMIT, "password_changed": 1}


async def test_notices_are_counted_by_address_and_not_by_account(api: Client) -> None:
    notices = 0
    for _ in range(LIMIT + 3):
        user = await account(api, confirmed=False)
        await notice(api)
        notices += (await mails(api))["token_created"]
        await api.services.accounts.deletion.delete(user.id)
    assert notices == LIMIT


async def test_notice_counts_only_if_committed(api: Client) -> None:
    user = await account(api, confirmed=False)

    async def queue(store: Store) -> None:
        await api.services.mail.queue(store, MailKind.TOKEN_CREATED, user)

    async def queue_and_fail() -> None:
        async with api.services.database.transaction() as store:
            await queue(store)
            raise OSError("before the commit")

    for _ in range(LIMIT + 3):
        with pytest.raises(OSError, match="before the commit"):
            await queue_and_fail()
    for _ in range(LIMIT + 3):
        async with api.services.database.transaction() as store:
            await queue(store)
    assert await mails(api) == {"token_created": LIMIT}


async def test_notices_over_the_limit_do_not_extend_the_window(api: Client) -> None:
    clock = MonotonicClock()
    api.services.mail._notices = TTLCache[object, _Counter](100, ttl=3600, timer=clock)  # type: ignore[assignment]
    await account(api, confirmed=False)
    await several(api, notice)
    clock.seconds += 3599
    await notice(api)
    assert await mails(api) == {"token_created": LIMIT}
    clock.seconds += 2
    await notice(api)
    assert await mails(api) == {"token_created": LIMIT + 1}
