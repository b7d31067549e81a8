"""docs/mail.md: its commands print the documented output, and its examples work."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from authapi.crypto.ids import new_id
from authapi.domain.outbox import OutboxEntry
from authapi.services.mail import MailKind
from authapi.services.mail.rendering import MailRenderer, example_payload
from authapi.services.webhooks import signature
from tests.conftest import SettingsFactory
from tests.console import run_page
from tests.servers.webhooks import SECRET
from tests.storage.rows import AT
from tests.test_readme import ROOT, blocks, service

__all__ = ["service"]

PAGE = (ROOT / "docs" / "mail.md").read_text("utf-8")


@pytest.mark.slow
def test_commands_print_the_documented_output(service: str, tmp_path: Path) -> None:
    ran = run_page(PAGE, service, tmp_path)
    for command, expected, output in ran:
        if "grep" in command:
            assert sorted(output.split("\n")[1:-1]) == sorted(expected.split("\n")), command
        elif "users set-password" not in command:
            assert output.strip() == expected.strip(), command
    assert len(ran) == 10


def test_template_example_works(make_settings: SettingsFactory, tmp_path: Path) -> None:
    (source,) = blocks("jinja", PAGE)
    (tmp_path / "de").mkdir()
    (tmp_path / "de/reset.txt").write_text(source, encoding="utf-8")
    letters = MailRenderer(make_settings(mail_templates=tmp_path, locales=("de", "en")))
    letters.check()
    entry = OutboxEntry(new_id(), "mail", MailKind.RESET.value, None, b"", AT, AT, AT)
    assert letters.render(entry, example_payload("de"))["Subject"] == "Ein neues Passwort"


def test_receiver_example_verifies_signatures() -> None:
    (source,) = blocks("python", PAGE)
    known: dict[str, Any] = {}
    exec(source, known)
    body, stamp = '{"type": "login"}', int(time.time())
    key = bytes(range(32))
    headers = {"webhook-id": "an-id", "webhook-timestamp": str(stamp)}
    headers["webhook-signature"] = signature(key, "an-id", stamp, body)
    assert known["is_authentic"](SECRET, headers, body.encode())
    assert not known["is_authentic"](SECRET, headers, body.encode() + b" ")
    assert not known["is_authentic"](SECRET, headers | {"webhook-id": "another"}, body.encode())
    old = stamp - 600
    headers |= {
        "webhook-timestamp": str(old),
        "webhook-signature": signature(key, "an-id", old, body),
    }
    assert not known["is_authentic"](SECRET, headers, body.encode())


def test_documented_mail_kinds_match_the_code() -> None:
    table = PAGE.split("## What is sent")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [
        "confirm", "reset", "change", "email_changed", "password_changed", "token_created",
        "refresh_reuse", "factor_added", "factor_removed", "factors_reset",
        "recovery_codes_made", "recovery_code_used", "second_factor_refused", "new_device",
        "invitation", "address_taken", "identity_linked", "identity_unlinked", "identity_wanted",
        "test",
    ]  # fmt: skip
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(MailKind)


def test_documented_mail_urls_are_valid(make_settings: SettingsFactory) -> None:
    table = PAGE.split("## Where mail goes")[1].split("\n\nSMTP needs")[0]
    for url in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)[1:]:
        assert make_settings(mail_url=url).mail_transport == url.partition(":")[0]


@pytest.mark.parametrize("name", ["mail.md", "decisions/0015-transactional-outbox.md"])
def test_links_are_valid(name: str) -> None:
    path = ROOT / "docs" / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target
