"""`authapi mail` and `authapi webhooks`: test, list and retry; and doctor on mail."""

import json
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from uuid import UUID

import pytest

from authapi.cli import mail
from authapi.domain.email_address import parse_email
from authapi.domain.outbox import OutboxEntry
from authapi.services import Services
from tests.cli.conftest import Run, failed_with_one_line
from tests.conftest import SettingsFactory
from tests.servers.process import free_port
from tests.servers.smtp import SMTPServer, new_certificate
from tests.servers.webhooks import SECRET, Receiver

PASSWORD = "correct horse battery staple"


def test_send_a_test_mail_to_a_folder(run: Run, tmp_path: Path) -> None:
    done = run("mail", "test", "Alice@example.com", "--locale", "ko", "--json")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "mail"
    assert json.loads(done.stdout) == {
        "to": "Alice@example.com",
        "sent": True,
        "transport": f"written into {folder}",
    }
    (file,) = folder.iterdir()
    message = message_from_bytes(file.read_bytes())
    assert message["To"] == "Alice@example.com"
    assert message["Content-Language"] == "ko"
    assert "email" in failed_with_one_line(run("mail", "test", "nobody"))
    assert "AUTHAPI_MAIL_URL" in failed_with_one_line(
        run("mail", "test", "a@example.com", mail_url="none:")
    )


def test_a_list_goes_on_up_to_the_greatest_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    time = datetime(2026, 11, 30, tzinfo=UTC)
    entry = OutboxEntry(
        id=UUID(int=1),
        kind="mail",
        purpose="reset",
        user_id=None,
        payload=b"",
        created_at=time,
        due_at=time,
        expires_at=time,
    )
    monkeypatch.setattr(mail, "run_with_services", lambda *_, **__: [entry] * 10_001)
    for limit, next_limit in ((100, "1000"), (1_001, "10000"), (10_000, None)):
        mail.list_entries("mail", limit, plain=False, as_json=True)
        assert json.loads(capsys.readouterr().out)["next"] == next_limit


def test_send_a_test_mail_by_smtp(run: Run, tmp_path: Path) -> None:
    certificate = new_certificate(tmp_path, "127.0.0.1")
    with SMTPServer(certificate, needs_login=True) as server:
        settings = {"mail_url": server.url, "mail_ca_file": str(certificate.path)}
        done = run("mail", "test", "alice@example.com", **settings)
        assert done.returncode == 0, done.stderr
        assert f"127.0.0.1:{server.port} answers" in done.stdout
        assert [message["To"] for message in server.messages] == ["alice@example.com"]
        untrusted = failed_with_one_line(
            run("mail", "test", "alice@example.com", mail_url=server.url)
        )
        assert untrusted.endswith("its certificate is not trusted (self-signed certificate)")
        asked = json.loads(run("doctor", "--json", **settings).stdout)
        (found,) = [row for row in asked if row["check"] == "mail"]
        assert found["verdict"] == "ok"
        assert found["message"] == f"127.0.0.1:{server.port} answers"
        assert len(server.messages) == 1, "to look is not to send"
    away = run("doctor", "--json", **settings)
    assert away.returncode == 1
    (found,) = [row for row in json.loads(away.stdout) if row["check"] == "mail"]
    assert found["verdict"] == "error"
    reason = f"SMTPConnectError, 127.0.0.1 on port {server.port}: Connect call failed"
    assert found["message"].startswith(f"the mail server: {reason}")


def test_list_and_retry_undelivered_mail(run: Run) -> None:
    away = {"mail_url": f"smtp+plain://127.0.0.1:{free_port()}"}
    assert run("users", "create", "alice@example.com", text=PASSWORD, **away).returncode == 0
    assert run("mail", "list", **away).stdout == ""
    run("users", "set-password", "alice@example.com", text=PASSWORD + "x", **away)
    (row,) = json.loads(run("mail", "list", "--json", **away).stdout)["items"]
    assert (row["purpose"], row["state"], row["attempts"]) == ("password_changed", "pending", 0)
    assert "alice" not in run("mail", "list", **away).stdout
    assert json.loads(run("mail", "retry", "--json", **away).stdout) == {"retried": 0}


async def test_list_and_retry_requests(run: Run, make_settings: SettingsFactory) -> None:
    services = Services.build(make_settings())
    await services.accounts.deferred_requests.submit("reset", parse_email("alice@example.com"))
    await services.stop()
    url = {"database_url": str(services.settings.resolved_database_url)}
    (row,) = json.loads(run("mail", "list", "--requests", "--json", **url).stdout)["items"]
    assert (row["purpose"], row["state"], row["error"]) == ("reset", "pending", None)
    assert json.loads(run("mail", "list", "--json", **url).stdout)["items"] == []
    assert json.loads(run("mail", "retry", "--requests", "--json", **url).stdout) == {"retried": 0}


def test_send_a_test_event_to_webhooks(run: Run) -> None:
    assert "AUTHAPI_WEBHOOK_URLS" in failed_with_one_line(run("webhooks", "test"))
    with Receiver() as good, Receiver(status=500) as bad:
        settings = {"webhook_secret": SECRET, "webhook_urls": f"{good.url} {bad.url}"}
        done = run("webhooks", "test", "--json", **settings)
        assert done.returncode == 1
        assert json.loads(done.stdout)["items"] == [
            {"url": good.url, "delivered": True, "answer": 204},
            {"url": bad.url, "delivered": False, "answer": 500},
        ]
        (received,) = good.received
        assert received.is_signed
        assert received.document["type"] == "webhook_test"
        alone = run("webhooks", "test", webhook_secret=SECRET, webhook_urls=good.url)
        assert alone.returncode == 0, alone.stderr
    gone = run("webhooks", "test", "--json", webhook_secret=SECRET, webhook_urls=good.url)
    assert gone.returncode == 1
    assert json.loads(gone.stdout)["items"][0]["answer"] == "the receiver: ConnectError"


def test_mail_of_a_command_is_queued_for_the_service(run: Run) -> None:
    settings = {"webhook_secret": SECRET, "webhook_urls": f"http://127.0.0.1:{free_port()}/"}
    assert run("users", "create", "a@example.com", text=PASSWORD, **settings).returncode == 0
    (row,) = json.loads(run("webhooks", "list", "--json", **settings).stdout)["items"]
    assert row["purpose"] == "account_registered"
    assert json.loads(run("webhooks", "retry", "--json", **settings).stdout) == {"retried": 0}
