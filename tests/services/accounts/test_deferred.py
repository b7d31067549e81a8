"""Deferred requests: submitted without a lookup, and handled once."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from authapi.domain.client import Client, on_behalf_of
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.domain.outbox import OutboxEntry
from authapi.domain.user import User
from authapi.services import Services
from authapi.settings import Settings
from tests.second_factors import add_second_factors
from tests.storage.rows import stored_users
from tests.web.mailbox import keep_mail, mail_kinds, sent_mail

ALICE, BOB, NEW = (parse_email(f"{name}@example.com") for name in ("alice", "bob", "new"))
PASSWORD = "correct horse battery staple"
SOMEWHERE = Client(ip="192.0.2.7", user_agent="browser/1", request_id="0" * 32)


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    """Services without background tasks, which collect their mail."""
    found = Services.build(Settings(database_url=database_url, limit_mails="100/hour"))  # type: ignore[arg-type]
    keep_mail(found)
    await found.open()
    yield found
    await found.stop()


async def requests_of(services: Services) -> list[OutboxEntry]:
    async with services.database.read() as store:
        rows = await store.outbox.page(after=None, limit=100)
    return [row for row in rows if row.kind == "request"]


async def ask_change(services: Services, user: User, **kwargs: Any) -> None:
    async with services.database.transaction() as store:
        await store.users.lock(user.id)
        await services.accounts.deferred_requests.submit_email_change(
            store, user, kwargs.get("email", NEW)
        )


@pytest.mark.parametrize("email", [ALICE, BOB], ids=["known", "unknown"])
async def test_submit_inserts_one_row_and_reads_nothing(
    services: Services, email: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await services.accounts.registration.create(ALICE, PASSWORD)
    statements: list[str] = []
    execute = type(services.database.engine.sync_engine.dialect).do_execute

    def told(self: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(" ".join(statement.split()[:3]))
        execute(self, cursor, statement, *rest)

    dialect = type(services.database.engine.sync_engine.dialect)
    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_execute", told)
        await services.accounts.deferred_requests.submit("reset", email)
    assert [text for text in statements if not text.startswith("BEGIN")] == [
        "INSERT INTO authapi_outbox"
    ]
    [entry] = await requests_of(services)
    assert entry.user_id is None
    assert email.original.encode() not in entry.payload


async def test_events_name_the_client_of_the_request(services: Services) -> None:
    alice = await services.accounts.registration.create(ALICE, PASSWORD)
    with on_behalf_of(lambda: SOMEWHERE):
        await services.accounts.deferred_requests.submit("reset", ALICE)
    await services.outbox.drain()
    [event] = (await services.audit.page(alice.id, before=None, limit=1))[:1]
    assert (event.type, event.client) == (EventType.PASSWORD_RESET_REQUESTED, SOMEWHERE)


async def test_concurrent_handling_takes_effect_once(services: Services) -> None:
    await services.accounts.registration.create(ALICE, PASSWORD)
    await services.accounts.deferred_requests.submit("reset", ALICE)
    [entry] = await requests_of(services)
    payload = services.outbox.decrypt_payload(entry)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(services.accounts.deferred_requests.handle, entry, payload)
    assert await mail_kinds(services) == ["reset"]
    await services.accounts.deferred_requests.handle(entry, payload)
    assert await mail_kinds(services) == ["reset"]


async def test_requests_for_a_deleted_account_send_no_mail(services: Services) -> None:
    alice = await services.accounts.registration.create(ALICE, PASSWORD)
    await services.accounts.deferred_requests.submit("reset", ALICE)
    await ask_change(services, alice)
    await services.accounts.deletion.delete(alice.id)
    # The entry of the account was deleted with it. The other entry finds no account.
    assert len(await requests_of(services)) == 1
    assert await sent_mail(services) == []


@pytest.mark.parametrize("what", ["password", "second factor", "deactivated", "address reserved"])
async def test_an_outdated_email_change_sends_no_mail(services: Services, what: str) -> None:
    alice = await services.accounts.registration.create(ALICE, PASSWORD)
    await ask_change(services, alice)
    if what == "password":
        await services.accounts.passwords.set(alice.id, "another horse, another battery")
    elif what == "second factor":
        await add_second_factors(services, alice)
    elif what == "deactivated":
        await services.accounts.administration.change(alice.id, {"is_active": False})
    else:
        from authapi.domain.email_token import Purpose
        from authapi.services.accounts.email_tokens import EmailTokens

        bob = await services.accounts.registration.create(BOB, PASSWORD)
        async with services.database.transaction() as store:
            email_tokens = EmailTokens(services.database, services.mail, Settings())
            await email_tokens.issue(store, bob, Purpose.REVERT_EMAIL_CHANGE, email=NEW)
    assert "change" not in await mail_kinds(services)
    assert await requests_of(services) == []


async def test_two_registrations_of_one_address_create_one_account(database_url: str) -> None:
    settings = Settings(database_url=database_url, registration="confirm")  # type: ignore[arg-type]
    services = Services.build(settings)
    keep_mail(services)
    await services.open()
    for name in ("first", "second"):
        assert await services.accounts.registration.register(ALICE, PASSWORD, name=name) is None
    # Both are handled concurrently: the one that fails is retried, and finds the other account.
    assert await mail_kinds(services, ALICE.original) == ["confirm", "confirm"]
    assert len(await stored_users(services.database)) == 1
    await services.stop()
