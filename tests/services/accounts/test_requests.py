"""What strangers ask for: written down as it is, done once, and true when it is done."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from authapi.identity import Client, EventType, User, on_behalf_of
from authapi.services import Services
from authapi.services.addresses import parse_email
from authapi.settings import Settings
from authapi.storage.tables.outbox import Entry
from tests.web.mailbox import keep_mail, letters, occasions

ALICE, BOB, NEW = (parse_email(f"{name}@example.com") for name in ("alice", "bob", "new"))
PASSWORD = "correct horse battery staple"
SOMEWHERE = Client(ip="192.0.2.7", user_agent="browser/1", request_id="0" * 32)


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    """Services that do nothing by themselves, and keep their mail."""
    found = Services.build(Settings(database_url=database_url, limit_mails="100/hour"))  # type: ignore[arg-type]
    keep_mail(found)
    await found.open()
    yield found
    await found.stop()


async def requests_of(services: Services) -> list[Entry]:
    async with services.database.read() as store:
        rows = await store.outbox.page(after=None, limit=100)
    return [row for row in rows if row.kind == "request"]


async def ask_change(services: Services, user: User, **kwargs: Any) -> None:
    async with services.database.transaction() as store:
        await store.users.lock(user.id)
        await services.requests.ask_change(store, user, kwargs.get("email", NEW))


@pytest.mark.parametrize("email", [ALICE, BOB], ids=["known", "unknown"])
async def test_a_request_is_one_row_and_a_look_at_nothing(
    services: Services, email: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await services.accounts.create(ALICE, PASSWORD)
    statements: list[str] = []
    execute = type(services.database.engine.sync_engine.dialect).do_execute

    def told(self: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(" ".join(statement.split()[:3]))
        execute(self, cursor, statement, *rest)

    dialect = type(services.database.engine.sync_engine.dialect)
    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_execute", told)
        await services.requests.ask("reset", email)
    assert [text for text in statements if not text.startswith("BEGIN")] == ["INSERT INTO outbox"]
    [entry] = await requests_of(services)
    assert entry.user_id is None
    assert email.given.encode() not in entry.payload


async def test_what_is_done_comes_from_who_asked(services: Services) -> None:
    alice = await services.accounts.create(ALICE, PASSWORD)
    with on_behalf_of(lambda: SOMEWHERE):
        await services.requests.ask("reset", ALICE)
    await services.outbox.settle()
    [event] = (await services.audit.page(alice.id, before=None, limit=1))[:1]
    assert (event.type, event.client) == (EventType.PASSWORD_RESET_REQUESTED, SOMEWHERE)


async def test_done_twice_at_once_it_is_done_once(services: Services) -> None:
    await services.accounts.create(ALICE, PASSWORD)
    await services.requests.ask("reset", ALICE)
    [entry] = await requests_of(services)
    payload = services.outbox.read(entry)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(services.requests.handle, entry, payload)
    assert await occasions(services) == ["reset"]
    await services.requests.handle(entry, payload)
    assert await occasions(services) == ["reset"]


async def test_an_account_that_is_gone_meanwhile(services: Services) -> None:
    alice = await services.accounts.create(ALICE, PASSWORD)
    await services.requests.ask("reset", ALICE)
    await ask_change(services, alice)
    await services.accounts.delete(alice.id)
    # What was asked for by the account went with it; the other finds nobody.
    assert len(await requests_of(services)) == 1
    assert await letters(services) == []


@pytest.mark.parametrize("what", ["password", "deactivated", "address reserved"])
async def test_a_change_that_is_not_true_any_more(services: Services, what: str) -> None:
    alice = await services.accounts.create(ALICE, PASSWORD)
    await ask_change(services, alice)
    if what == "password":
        await services.accounts.set_password(alice.id, "another horse, another battery")
    elif what == "deactivated":
        await services.accounts.set_active(alice.id, False)
    else:
        from authapi.services.accounts.one_time import OneTimeSecrets
        from authapi.storage.tables.one_time_secrets import Purpose

        bob = await services.accounts.create(BOB, PASSWORD)
        async with services.database.transaction() as store:
            one_time = OneTimeSecrets(services.database, Settings())
            await one_time.make(store, bob, Purpose.UNDO, email=NEW)
    assert "change" not in await occasions(services)
    assert await requests_of(services) == []


async def test_two_registrations_of_one_address_make_one_account(database_url: str) -> None:
    settings = Settings(database_url=database_url, registration="confirm")  # type: ignore[arg-type]
    services = Services.build(settings)
    keep_mail(services)
    await services.open()
    for name in ("first", "second"):
        assert await services.registration.register(ALICE, PASSWORD, name=name) is None
    # Both are done at the same moment: the one that loses the race comes back, and finds the other.
    assert await occasions(services, ALICE.given) == ["confirm", "confirm"]
    assert len(await services.accounts.page()) == 1
    await services.stop()
