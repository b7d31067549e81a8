"""docs/mail.md is true: its commands print what it says, its template and its receiver work."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from authapi.crypto.ids import new_id
from authapi.services.mail import Occasion
from authapi.services.mail.letters import Letters, example
from authapi.services.webhooks import signature
from authapi.storage.tables.outbox import Entry
from tests.conftest import SettingsFactory
from tests.console import run_page
from tests.servers.webhooks import SECRET
from tests.storage.rows import AT
from tests.test_readme import ROOT, blocks, service

__all__ = ["service"]

PAGE = (ROOT / "docs" / "mail.md").read_text("utf-8")


@pytest.mark.slow
def test_the_commands_print_what_it_says(service: str, tmp_path: Path) -> None:
    ran = run_page(PAGE, service, tmp_path)
    for command, expected, output in ran:
        if "grep" in command:
            assert sorted(output.split("\n")[1:-1]) == sorted(expected.split("\n")), command
        elif "users set-password" not in command:
            assert output.strip() == expected.strip(), command
    assert len(ran) == 10


def test_its_template_can_be_written(make_settings: SettingsFactory, tmp_path: Path) -> None:
    (source,) = blocks("jinja", PAGE)
    (tmp_path / "de").mkdir()
    (tmp_path / "de/reset.txt").write_text(source, encoding="utf-8")
    letters = Letters(make_settings(mail_templates=tmp_path, locales=("de", "en")))
    letters.check()
    entry = Entry(new_id(), "mail", Occasion.RESET.value, None, b"", AT, AT, AT)
    assert letters.write(entry, example("de"))["Subject"] == "Ein neues Passwort"


def test_its_receiver_knows_what_is_ours() -> None:
    (source,) = blocks("python", PAGE)
    known: dict[str, Any] = {}
    exec(source, known)
    body, stamp = '{"type": "login"}', int(time.time())
    key = bytes(range(32))
    headers = {"webhook-id": "an-id", "webhook-timestamp": str(stamp)}
    headers["webhook-signature"] = signature(key, "an-id", stamp, body)
    assert known["is_ours"](SECRET, headers, body.encode())
    assert not known["is_ours"](SECRET, headers, body.encode() + b" ")
    assert not known["is_ours"](SECRET, headers | {"webhook-id": "another"}, body.encode())
    old = stamp - 600
    headers |= {
        "webhook-timestamp": str(old),
        "webhook-signature": signature(key, "an-id", old, body),
    }
    assert not known["is_ours"](SECRET, headers, body.encode())


def test_its_occasions_are_those_that_there_are() -> None:
    table = PAGE.split("## What is sent")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [
        "confirm", "reset", "change", "email_changed", "password_changed", "token_created",
        "refresh_reuse", "invitation", "address_taken", "test",
    ]  # fmt: skip
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(Occasion)


def test_its_urls_are_taken(make_settings: SettingsFactory) -> None:
    table = PAGE.split("## Where mail goes")[1].split("\n\nSMTP needs")[0]
    for url in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)[1:]:
        assert make_settings(mail_url=url).mail_transport == url.partition(":")[0]


@pytest.mark.parametrize("name", ["mail.md", "decisions/0015-an-outbox.md"])
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / "docs" / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target
