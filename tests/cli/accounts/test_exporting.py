"""`authapi users export`."""

import json

import pytest

from authapi.cli.accounts import exporting
from tests.cli.conftest import Run

PASSWORD = "correct horse battery staple"


def test_all_accounts_are_written_without_passwords(run: Run) -> None:
    assert run("users", "export").stdout == ""
    for name in ("c", "a", "b"):
        made = run("users", "create", f"{name}@example.com", "--name", "Zoë", text=PASSWORD)
        assert made.returncode == 0
    done = run("users", "export")
    accounts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [account["email"][0] for account in accounts] == ["c", "a", "b"]
    assert accounts == json.loads(run("users", "list", "--json").stdout)["items"]
    assert "Zoë" in done.stdout
    assert "argon2" not in done.stdout
    assert done.stderr == ""


def test_pages_continue_each_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcd":
        assert run("users", "create", f"{name}@example.com", text=PASSWORD).returncode == 0
    for size in (1, 2, 3, 4, 5):
        monkeypatch.setattr(exporting, "_PAGE", size)
        exporting.export_users()
        written = [json.loads(line)["email"][0] for line in capsys.readouterr().out.splitlines()]
        assert written == ["a", "b", "c", "d"]
