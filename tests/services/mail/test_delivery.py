"""Mail is queued in the transaction of a change, and delivered after its commit."""

import asyncio
import email
import email.policy
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from authapi.domain.client import Client, on_behalf_of
from authapi.domain.user import User
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.mail import MailKind, delivery
from authapi.services.mail.transports import create_transport
from authapi.settings import Settings
from tests.conftest import SettingsFactory
from tests.storage.rows import a_user, sql, store_user

CONFIRMED = datetime(2026, 1, 1, tzinfo=UTC)
CAUSED_BY_CLIENTS = (
    MailKind.CONFIRM,
    MailKind.RESET,
    MailKind.CHANGE,
    MailKind.EMAIL_CHANGED,
    MailKind.INVITATION,
    MailKind.ADDRESS_TAKEN,
)
EVIL = "Win a prize at evil.example"


def sent(settings: Settings) -> Sequence[EmailMessage]:
    """The messages in the default folder, in the order in which they were queued."""
    found = []
    for path in sorted((settings.data_dir / "mail").glob("*.eml")):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        found.append(message)
    return found


async def text_of_mail(services: Services, user: User, kind: MailKind, **about: Any) -> str:
    """The complete text of one mail: headers and both bodies."""
    async with services.database.transaction() as store:
        await services.mail.queue(store, kind, user, **about)
    await services.outbox.drain()
    message = sent(services.settings)[-1]
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return "\n".join([*map(str, message.values()), *parts])


async def test_mail_is_sent_after_the_commit_of_its_transaction(
    services_on_each: Services,
) -> None:
    services = services_on_each
    alice = await store_user(services.database, a_user())

    async def roll_back() -> None:
        async with services.database.transaction() as store:
            await services.mail.queue(store, MailKind.PASSWORD_CHANGED, alice)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await roll_back()
    assert await services.outbox.drain() == 0
    assert sent(services.settings) == []
    ends = datetime.now(UTC) + timedelta(minutes=30)
    with on_behalf_of(lambda: Client(ip="192.0.2.7")):
        async with services.database.transaction() as store:
            await services.mail.queue(
                store, MailKind.RESET, alice, secret="the-secret", expires_at=ends
            )
    await services.outbox.drain()
    (message,) = sent(services.settings)
    assert message["To"] == "Alice@example.com"
    text = message.get_body(("plain",))
    assert text is not None
    assert "http://127.0.0.1:8000/account/reset?token=the-secret" in text.get_content()
    (file,) = (services.settings.data_dir / "mail").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.stem == message["Message-ID"].strip("<>").partition("@")[0]


async def test_queued_mail_is_encrypted(services: Services, sqlite_url: str) -> None:
    await services.outbox.stop()
    alice = await store_user(services.database, a_user())
    async with services.database.transaction() as store:
        await services.mail.queue(store, MailKind.RESET, alice, secret="the-secret")
    ((payload,),) = sql(sqlite_url, "SELECT payload FROM authapi_outbox")
    for plain in ("the-secret", "example.com", "Alice"):
        assert plain.encode() not in payload


@pytest.mark.parametrize("kind", CAUSED_BY_CLIENTS)
async def test_mail_caused_by_unauthenticated_clients_contains_no_account_text(
    services: Services, kind: MailKind
) -> None:
    alice = await store_user(services.database, a_user(name=EVIL, email_confirmed_at=CONFIRMED))
    ends = datetime.now(UTC) + timedelta(hours=1)
    text = await text_of_mail(services, alice, kind, secret="s", expires_at=ends)
    assert "evil" not in text


@pytest.mark.parametrize("kind", [*MailKind][:-1])
async def test_mail_to_an_unconfirmed_address_contains_no_account_text(
    services: Services, kind: MailKind
) -> None:
    mallory = await store_user(services.database, a_user(name=EVIL))
    ends = datetime.now(UTC) + timedelta(hours=1)
    text = await text_of_mail(services, mallory, kind, secret="s", expires_at=ends, token=EVIL)
    assert "evil" not in text


async def test_notice_contains_the_name_and_facts_for_the_owner(services: Services) -> None:
    alice = await store_user(services.database, a_user(email_confirmed_at=CONFIRMED))
    with on_behalf_of(lambda: Client(ip="192.0.2.7", user_agent=EVIL)):
        text = await text_of_mail(services, alice, MailKind.TOKEN_CREATED, token="backup script")
    assert "Hello Alice," in text
    assert "backup script" in text
    assert "192.0.2.7" in text
    assert "evil" not in text, "the client chooses its user agent"
    assert "Hello" not in await text_of_mail(
        services, replace(alice, locale="ko"), MailKind.TOKEN_CREATED, token="x"
    )


async def test_mail_to_another_address_contains_no_name(services: Services) -> None:
    alice = await store_user(services.database, a_user(email_confirmed_at=CONFIRMED))
    text = await text_of_mail(services, alice, MailKind.PASSWORD_CHANGED, to="old@example.com")
    assert "old@example.com" in text
    assert "Alice" not in text


async def test_mail_with_an_expired_link_is_not_sent(services: Services, sqlite_url: str) -> None:
    await services.outbox.stop()
    alice = await store_user(services.database, a_user())
    async with services.database.transaction() as store:
        ends = datetime.now(UTC) - timedelta(seconds=1)
        await services.mail.queue(store, MailKind.RESET, alice, secret="s", expires_at=ends)
    await services.outbox.drain()
    assert sent(services.settings) == []
    assert sql(sqlite_url, "SELECT error FROM authapi_outbox WHERE failed_at IS NOT NULL") == [
        ("expired",)
    ]


async def test_nothing_is_queued_if_mail_is_disabled(
    make_settings: SettingsFactory, sqlite_url: str
) -> None:
    services = Services.build(make_settings(mail_url="none:"))
    await services.start()
    alice = await store_user(services.database, a_user())
    async with services.database.transaction() as store:
        await services.mail.queue(store, MailKind.PASSWORD_CHANGED, alice)
    assert sql(sqlite_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]
    with pytest.raises(ConfigurationError, match="AUTHAPI_MAIL_URL"):
        await services.mail.send_test("a@example.com")
    assert await services.mail.check() == "off: no mail is sent"
    await services.stop()


async def test_repeated_delivery_replaces_the_file(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "a b"
    settings = make_settings(mail_url=f"folder:{folder.as_posix().replace(' ', '%20')}")
    transport = create_transport(settings)
    assert transport is not None
    message = EmailMessage()
    message["Message-ID"], message["To"] = "<the-id@example.com>", "a@example.com"
    message.set_content("one")
    await transport.send(message)
    message.set_content("two")
    await transport.send(message)
    (file,) = folder.iterdir()
    assert file.name == "the-id.eml"
    assert b"two" in file.read_bytes()
    assert await transport.check() == f"written into {folder}"


async def test_console_transport_prints_the_link(
    make_settings: SettingsFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    services = Services.build(make_settings(mail_url="console:"))
    await services.start()
    await services.mail.send_test("Alice@example.com", locale="ko")
    printed = capsys.readouterr().out
    assert "To: Alice@example.com" in printed
    assert "하실 일은 없습니다." in printed
    await services.stop()


def test_production_does_not_print_mail(make_settings: SettingsFactory, sqlite_url: str) -> None:
    with pytest.raises(ValueError, match="production does not print mail"):
        make_settings(
            env="production",
            secret="0123456789abcdef0123456789ABCDEF-x",
            public_url="https://auth.example",
            allow_sqlite=True,
            mail_url="console:",
        )


async def test_custom_templates_are_rendered_at_start(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    (tmp_path / "t/en").mkdir(parents=True)
    (tmp_path / "t/en/reset.txt").write_text("Subject: s\n\n{{ unknown }}\n")
    services = Services.build(make_settings(mail_templates=tmp_path / "t"))
    with pytest.raises(ConfigurationError, match=r"the mail template en/reset.txt"):
        await services.start()
    await services.stop()


async def test_mails_that_wait_for_imports_keep_their_order(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    sent_to: list[str] = []

    async def import_slowly(*_: str) -> None:
        begun.set()
        await go_on.wait()

    async def record(message: EmailMessage) -> None:
        sent_to.append(message["To"])

    monkeypatch.setattr(delivery, "import_in_thread", import_slowly)
    monkeypatch.setattr(services.mail, "_send", record)
    addresses = [f"user{number}@example.com" for number in range(3)]
    tests = [asyncio.create_task(services.mail.send_test(to)) for to in addresses]
    await begun.wait()
    assert sent_to == [], "no mail is rendered before the imports"
    go_on.set()
    await asyncio.gather(*tests)
    assert sent_to == addresses
