"""Mail by SMTP to a real server: TLS, rejections, slow servers, outages and recovery."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import anyio
import pytest
import time_machine

from authapi import create_app
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.services.mail import MailKind
from authapi.services.mail.transports import Transport, create_transport
from authapi.settings import Settings
from authapi.testing import PASSWORD as LOGIN
from authapi.testing import Client, client
from tests.servers.smtp import PASSWORD, Certificate, Security, SMTPServer, new_certificate
from tests.storage.rows import sql
from tests.web.logins import sign_in

FROM = "Example <no-reply@mail.example>"
NEW = "another horse battery staple"
SECURITIES: list[Security] = ["starttls", "tls", "plain"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return new_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1", "localhost")


@pytest.fixture
def server(certificate: Certificate) -> Iterator[SMTPServer]:
    with SMTPServer(certificate) as found:
        yield found


def settings_of(server: SMTPServer, **changes: Any) -> Settings:
    defaults = {"mail_url": server.url, "mail_from": FROM, "mail_timeout": 5}
    return Settings(**(defaults | {"mail_ca_file": server.certificate.path} | changes))  # type: ignore[arg-type]


def smtp(server: SMTPServer, **changes: Any) -> Transport:
    found = create_transport(settings_of(server, **changes))
    assert found is not None
    return found


@asynccontextmanager
async def served(server: SMTPServer, url: str, **changes: Any) -> AsyncIterator[Client]:
    """The application, which sends its mail to `server`."""
    app = create_app(settings_of(server, database_url=url, **changes))
    async with client(app, delivers_mail=True) as api:
        yield api


async def failure(found: Transport, to: str = "alice@example.com") -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as raised:
        await found.send(message_to(to))
    return raised.value


def message_to(address: str) -> EmailMessage:
    message = EmailMessage()
    message["To"], message["Message-ID"] = address, "<1@mail.example>"
    message.set_content("안녕하세요\n")
    return message


@pytest.mark.parametrize("security", SECURITIES)
@pytest.mark.parametrize("needs_login", [False, True], ids=["anonymous", "user"])
async def test_smtp_delivers_mail(
    certificate: Certificate, security: Security, needs_login: bool
) -> None:
    with SMTPServer(certificate, security, needs_login) as server:
        found = smtp(server)
        await found.send(message_to("Alice@example.com"))
        assert await found.check() == f"127.0.0.1:{server.port} answers"
    ((sender, recipients, message),) = server.envelopes
    assert (sender, recipients) == ("no-reply@mail.example", ["Alice@example.com"])
    assert message.get_content() == "안녕하세요\n"


async def test_wrong_smtp_password_is_a_temporary_failure(certificate: Certificate) -> None:
    with SMTPServer(certificate, needs_login=True) as server:
        wrong = server.url.replace("authapi:", "authapi:not")
        refused = await failure(smtp(server, mail_url=wrong))
    assert not refused.permanent
    assert str(refused) == "the mail server: AuthenticationError (535)"
    assert server.envelopes == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_untrusted_certificate_is_rejected(
    certificate: Certificate, security: Security
) -> None:
    with SMTPServer(certificate, security, needs_login=True) as server:
        refused = await failure(smtp(server, mail_ca_file=None))
    assert not refused.permanent
    assert (
        str(refused) == "the mail server: its certificate is not trusted (self-signed certificate)"
    )
    assert (server.envelopes, server.attempts) == ([], 0)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_certificate_of_another_host_is_rejected(tmp_path: Path, security: Security) -> None:
    other = new_certificate(tmp_path, "mail.example")
    with SMTPServer(other, security) as server:
        refused = await failure(smtp(server))
    assert str(refused).startswith(
        "the mail server: its certificate is not trusted (IP address mism"
    )
    assert (server.envelopes, server.attempts) == ([], 0)


async def test_server_without_starttls_is_rejected(certificate: Certificate) -> None:
    with SMTPServer(certificate, "plain") as server:
        refused = await failure(smtp(server, mail_url=server.url.replace("smtp+plain", "smtp")))
    assert not refused.permanent
    assert (server.envelopes, server.attempts) == ([], 0)


async def test_wrong_tls_mode_is_a_temporary_failure(certificate: Certificate) -> None:
    with SMTPServer(certificate, "plain") as server:
        assert not (
            await failure(smtp(server, mail_url=f"smtps://127.0.0.1:{server.port}"))
        ).permanent
    with SMTPServer(certificate, "tls") as server:
        url = f"smtp://127.0.0.1:{server.port}"
        assert not (await failure(smtp(server, mail_url=url, mail_timeout=0.5))).permanent
    assert server.envelopes == []


def test_invalid_ca_file_is_a_configuration_error(server: SMTPServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigurationError, match="AUTHAPI_MAIL_CA_FILE"):
            smtp(server, mail_ca_file=path).open()


def test_missing_mail_extra_is_named(server: SMTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiosmtplib", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fastapi-authapi\[mail\]'"):
        smtp(server)


@pytest.mark.parametrize(
    ("what", "answer", "reason", "permanent"),
    [
        ("alice@example.com", "450 mailbox busy", "refused the recipient (450)", False),
        ("alice@example.com", "550 no such alice@example.com", "refused the recipient (550)", True),
        ("DATA", "451 later", "refused the mail (451)", False),
        ("DATA", "554 spam", "refused the mail (554)", True),
        ("MAIL", "550 not you", ": SenderRefused (550)", False),
    ],
)
async def test_server_rejections_are_classified(
    server: SMTPServer, what: str, answer: str, reason: str, permanent: bool
) -> None:
    server.refused[what] = answer
    refused = await failure(smtp(server))
    assert str(refused).removeprefix("the mail server").strip() == reason.strip()
    assert refused.permanent is permanent


async def test_unreachable_or_silent_server_is_a_temporary_failure(server: SMTPServer) -> None:
    server.stop()
    refused = await failure(smtp(server))
    reason = f"the mail server: SMTPConnectError, 127.0.0.1 on port {server.port}: Connect"
    assert (str(refused).startswith(reason), refused.permanent) == (True, False)
    server.start()
    server.dawdles = 30
    began = time.monotonic()
    refused = await failure(smtp(server, mail_timeout=0.3))
    assert time.monotonic() - began < 5
    assert (str(refused), refused.permanent) == ("the mail server: SMTPReadTimeoutError", False)


async def test_request_leads_to_mail_in_the_mailbox(server: SMTPServer, database_url: str) -> None:
    async with served(server, database_url) as api:
        alice = await api.create_user("Alice@example.com")
        headers = await sign_in(api.services, alice)
        body = {"name": "nightly"}
        assert (await api.post("/me/tokens", json=body, headers=headers)).status_code == 201
        await api.services.outbox.drain()
    ((sender, recipients, message),) = server.envelopes
    assert (sender, recipients) == ("no-reply@mail.example", ["Alice@example.com"])
    assert message["From"] == FROM
    assert message["Message-ID"].endswith("@mail.example>")
    assert message.get_content_type() == "multipart/alternative"
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]


async def test_mail_server_outage_slows_no_request_and_loses_no_mail(
    server: SMTPServer, database_url: str
) -> None:
    server.stop()
    async with served(server, database_url) as api:
        alice = await api.create_user("alice@example.com")
        sql(database_url, "UPDATE authapi_users SET email_confirmed_at = created_at")
        headers = await sign_in(api.services, alice)
        for number in range(12):
            body = {"name": f"script {number}"}
            assert (await api.post("/me/tokens", json=body, headers=headers)).status_code == 201
        assert await api.outbox() == []
        ((waiting,),) = sql(
            database_url, "SELECT count(*) FROM authapi_outbox WHERE failed_at IS NULL"
        )
        assert waiting == 12
    # After a restart, the service sends the queued mail.
    async with served(server, database_url) as api:
        server.start()
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=20), tick=True):
            await api.services.outbox.drain()
            with anyio.fail_after(30):
                while len(server.messages) < 12:  # noqa: ASYNC110  # another thread receives them
                    await asyncio.sleep(0.05)
            await api.services.outbox.drain()  # the last results are stored too
    ids = [message["Message-ID"] for message in server.messages]
    assert len(ids) == len(set(ids)) == 12, "each mail arrives once"
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]


@pytest.mark.slow
async def test_requests_do_not_wait_for_a_slow_mail_server(
    server: SMTPServer, database_url: str
) -> None:
    server.dawdles = 2.0
    async with served(server, database_url) as api:
        alice = await api.create_user("alice@example.com")
        headers = await sign_in(api.services, alice)
        took = []
        for number in range(5):
            began = time.monotonic()
            answer = await api.post("/me/tokens", json={"name": f"{number}"}, headers=headers)
            assert answer.status_code == 201
            took.append(time.monotonic() - began)
        assert server.messages == [], "the server has not accepted any mail yet"
        assert sum(took) < server.dawdles
        await api.services.outbox.drain()
    assert len(server.messages) == 5


async def test_permanently_failed_mail_is_kept_without_personal_data(
    server: SMTPServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused["alice@example.com"] = "550 <alice@example.com>: no such mailbox"
    server.refused["bob@example.com"] = "450 <bob@example.com>: try later"
    with caplog.at_level(logging.DEBUG):
        async with served(server, database_url) as api:
            for name in ("alice", "bob", "carol"):
                user = await api.create_user(f"{name}@example.com")
                await api.services.accounts.passwords.set(user.id, NEW)
            await api.services.outbox.drain()
            rows = sql(
                database_url, "SELECT error, failed_at IS NULL FROM authapi_outbox ORDER BY id"
            )
            assert [(error, bool(waits)) for error, waits in rows] == [
                ("the mail server refused the recipient (550)", False),
                ("the mail server refused the recipient (450)", True),
            ]
            del server.refused["bob@example.com"]
            with time_machine.travel(datetime.now(UTC) + timedelta(minutes=1), tick=True):
                await api.services.outbox.drain()
    assert [message["To"] for message in server.messages] == [
        "carol@example.com",
        "bob@example.com",
    ]
    ours = [record for record in caplog.records if record.name.startswith("authapi")]
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in ours)
    for secret in ("bob@", "alice@", PASSWORD, LOGIN):
        assert secret not in logged


async def test_mail_resent_after_a_crash_has_the_same_id(
    server: SMTPServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(server, database_url) as api:
        await api.services.outbox.stop()
        alice = await api.create_user()
        await api.services.accounts.passwords.set(alice.id, NEW)
        with monkeypatch.context() as patch:

            async def crashes(*_: object) -> None:
                raise ZeroDivisionError

            patch.setattr("authapi.storage.tables.outbox.OutboxTable.complete", crashes)
            with pytest.raises(ZeroDivisionError):
                await api.services.outbox.drain()
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=True):
            await api.services.outbox.drain()
    first, second = server.messages
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]


async def test_facts_cannot_inject_smtp_commands(server: SMTPServer, sqlite_url: str) -> None:
    evil = "Eve\r\nBcc: victim@example.com\r\n\r\n<img src=x>{{7*7}}"
    async with served(server, sqlite_url) as api:
        eve = await api.create_user("eve@example.com")
        named = replace(eve, name=evil, email_confirmed_at=datetime.now(UTC))
        async with api.services.database.transaction() as store:
            await api.services.mail.queue(store, MailKind.TOKEN_CREATED, named, token=evil)
        await api.services.outbox.drain()
    ((_, recipients, message),) = server.envelopes
    assert recipients == ["eve@example.com"]
    assert message["Bcc"] is None
    text, page = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert page is not None
    assert "<img src=x>{{7*7}}" in text.get_content()
    assert "<img" not in page.get_content()
