"""Mail queued with a change, and delivered once that is committed."""

import email
import email.policy
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from authapi.errors import ConfigurationError
from authapi.identity import Client, User, on_behalf_of
from authapi.services import Services
from authapi.services.mail import Occasion
from authapi.services.mail.transports import transport_of
from authapi.settings import Settings
from tests.conftest import SettingsFactory
from tests.storage.rows import a_user, sql, store_user

CONFIRMED = datetime(2026, 1, 1, tzinfo=UTC)
STRANGERS_CAUSE = (
    Occasion.CONFIRM,
    Occasion.RESET,
    Occasion.CHANGE,
    Occasion.EMAIL_CHANGED,
    Occasion.INVITATION,
    Occasion.ADDRESS_TAKEN,
)
EVIL = "Win a prize at evil.example"


def sent(settings: Settings) -> Sequence[EmailMessage]:
    """The mails in the default folder, in the order that they were queued in."""
    found = []
    for path in sorted((settings.data_dir / "mail").glob("*.eml")):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        found.append(message)
    return found


async def told(services: Services, user: User, occasion: Occasion, **about: Any) -> str:
    """Everything that one mail says, head and both bodies."""
    async with services.database.transaction() as store:
        await services.mail.queue(store, occasion, user, **about)
    await services.outbox.settle()
    message = sent(services.settings)[-1]
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return "\n".join([*map(str, message.values()), *parts])


async def test_a_mail_is_sent_once_what_it_tells_of_is_committed(
    services_on_each: Services,
) -> None:
    services = services_on_each
    alice = await store_user(services.database, a_user())

    async def taken_back() -> None:
        async with services.database.transaction() as store:
            await services.mail.queue(store, Occasion.PASSWORD_CHANGED, alice)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await taken_back()
    assert await services.outbox.settle() == 0
    assert sent(services.settings) == []
    ends = datetime.now(UTC) + timedelta(minutes=30)
    with on_behalf_of(lambda: Client(ip="192.0.2.7")):
        async with services.database.transaction() as store:
            await services.mail.queue(
                store, Occasion.RESET, alice, secret="the-secret", expires_at=ends
            )
    await services.outbox.settle()
    (message,) = sent(services.settings)
    assert message["To"] == "Alice@example.com"
    text = message.get_body(("plain",))
    assert text is not None
    assert "http://127.0.0.1:8000/account/reset?token=the-secret" in text.get_content()
    (file,) = (services.settings.data_dir / "mail").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.stem == message["Message-ID"].strip("<>").partition("@")[0]


async def test_what_is_queued_is_sealed(services: Services, sqlite_url: str) -> None:
    await services.outbox.stop()
    alice = await store_user(services.database, a_user())
    async with services.database.transaction() as store:
        await services.mail.queue(store, Occasion.RESET, alice, secret="the-secret")
    ((payload,),) = sql(sqlite_url, "SELECT payload FROM outbox")
    for plain in ("the-secret", "example.com", "Alice"):
        assert plain.encode() not in payload


@pytest.mark.parametrize("occasion", STRANGERS_CAUSE)
async def test_no_words_of_an_account_in_mail_that_strangers_cause(
    services: Services, occasion: Occasion
) -> None:
    alice = await store_user(services.database, a_user(name=EVIL, email_confirmed_at=CONFIRMED))
    ends = datetime.now(UTC) + timedelta(hours=1)
    told_all = await told(services, alice, occasion, secret="s", expires_at=ends)
    assert "evil" not in told_all


@pytest.mark.parametrize("occasion", [*Occasion][:-1])
async def test_no_words_of_whoever_took_an_address_that_nobody_confirmed(
    services: Services, occasion: Occasion
) -> None:
    mallory = await store_user(services.database, a_user(name=EVIL))
    ends = datetime.now(UTC) + timedelta(hours=1)
    told_all = await told(services, mallory, occasion, secret="s", expires_at=ends, token=EVIL)
    assert "evil" not in told_all


async def test_the_owner_is_called_by_name_and_told_what_happened(services: Services) -> None:
    alice = await store_user(services.database, a_user(email_confirmed_at=CONFIRMED))
    with on_behalf_of(lambda: Client(ip="192.0.2.7", user_agent=EVIL)):
        told_all = await told(services, alice, Occasion.TOKEN_CREATED, token="backup script")
    assert "Hello Alice," in told_all
    assert "backup script" in told_all
    assert "192.0.2.7" in told_all
    assert "evil" not in told_all, "a user agent is whatever somebody writes"
    assert "Hello" not in await told(
        services, replace(alice, locale="ko"), Occasion.TOKEN_CREATED, token="x"
    )


async def test_another_address_than_that_of_the_account_hears_no_name(services: Services) -> None:
    alice = await store_user(services.database, a_user(email_confirmed_at=CONFIRMED))
    told_all = await told(services, alice, Occasion.PASSWORD_CHANGED, to="old@example.com")
    assert "old@example.com" in told_all
    assert "Alice" not in told_all


async def test_a_link_whose_time_is_over_is_not_sent(services: Services, sqlite_url: str) -> None:
    await services.outbox.stop()
    alice = await store_user(services.database, a_user())
    async with services.database.transaction() as store:
        ends = datetime.now(UTC) - timedelta(seconds=1)
        await services.mail.queue(store, Occasion.RESET, alice, secret="s", expires_at=ends)
    await services.outbox.settle()
    assert sent(services.settings) == []
    assert sql(sqlite_url, "SELECT error FROM outbox WHERE failed_at IS NOT NULL") == [
        ("its time was over",)
    ]


async def test_nothing_is_queued_where_no_mail_is_sent(
    make_settings: SettingsFactory, sqlite_url: str
) -> None:
    services = Services.build(make_settings(mail_url="none:"))
    await services.start()
    alice = await store_user(services.database, a_user())
    async with services.database.transaction() as store:
        await services.mail.queue(store, Occasion.PASSWORD_CHANGED, alice)
    assert sql(sqlite_url, "SELECT count(*) FROM outbox") == [(0,)]
    with pytest.raises(ConfigurationError, match="AUTHAPI_MAIL_URL"):
        await services.mail.test("a@example.com")
    assert await services.mail.check() == "off: nobody is written to"
    await services.stop()


async def test_the_same_mail_again_is_the_same_file(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "a b"
    settings = make_settings(mail_url=f"folder:{folder.as_posix().replace(' ', '%20')}")
    transport = transport_of(settings)
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


async def test_the_console_shows_what_can_be_clicked(
    make_settings: SettingsFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    services = Services.build(make_settings(mail_url="console:"))
    await services.start()
    await services.mail.test("Alice@example.com", locale="ko")
    printed = capsys.readouterr().out
    assert "To: Alice@example.com" in printed
    assert "하실 일은 없습니다." in printed
    await services.stop()


def test_production_prints_no_mail(make_settings: SettingsFactory, sqlite_url: str) -> None:
    with pytest.raises(ValueError, match="production does not print mail"):
        make_settings(
            env="production",
            secret="0123456789abcdef0123456789ABCDEF-x",
            public_url="https://auth.example",
            allow_sqlite=True,
            mail_url="console:",
        )


async def test_templates_of_ones_own_are_tried_at_the_start(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    (tmp_path / "t/en").mkdir(parents=True)
    (tmp_path / "t/en/reset.txt").write_text("Subject: s\n\n{{ nobody }}\n")
    services = Services.build(make_settings(mail_templates=tmp_path / "t"))
    with pytest.raises(ConfigurationError, match=r"the mail template en/reset.txt"):
        await services.start()
    await services.stop()
