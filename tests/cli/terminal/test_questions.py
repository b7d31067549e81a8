"""Commands that remove data irreversibly ask for confirmation."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from authapi.storage import migrations
from authapi.storage.schema.revisions import number
from tests.cli.conftest import Run, failed_with_one_line

PASSWORD = "correct horse battery staple"
ALICE = "alice@example.com"
OnTerminal = Callable[..., tuple[int, str]]


@pytest.fixture
def accounts(run: Run) -> Run:
    """Creates two accounts, one with two personal access tokens."""
    for email in (ALICE, "bob@example.com"):
        assert run("users", "create", email, text=PASSWORD).returncode == 0
    for name in ("one", "two"):
        assert run("tokens", "create", ALICE, "--name", name).returncode == 0
    return run


@pytest.fixture
def on_terminal(tmp_path: Path) -> OnTerminal:
    """Runs `authapi` on a terminal and types an answer; returns the exit code and the output."""

    def run_there(*arguments: str, answer: str) -> tuple[int, str]:
        leader, follower = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "data")}
        command = [sys.executable, "-m", "authapi", *arguments]
        streams = {"stdin": follower, "stdout": follower, "stderr": follower}
        with subprocess.Popen(command, env=environment, cwd=tmp_path, **streams) as process:  # type: ignore[call-overload]
            os.close(follower)
            os.write(leader, answer.encode())
            shown = b""
            with suppress(OSError):  # Linux: the last process has closed the terminal
                while block := os.read(leader, 4096):
                    shown += block
            os.close(leader)
            code: int = process.wait(timeout=60)
        return code, shown.decode()

    return run_there


def state_of(run: Run) -> tuple[list[str], int, str]:
    """Returns the accounts, the number of sessions of Alice, and the schema revision."""
    users = [row["email"] for row in json.loads(run("users", "list", "--json").stdout)["items"]]
    sessions = len(json.loads(run("sessions", "list", ALICE, "--json").stdout)["items"])
    return users, sessions, run("db", "current").stdout.strip()


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (("users", "delete", ALICE), (ALICE, "0 sessions and 2 personal access tokens")),
        (("users", "delete", ALICE.upper()), ("permanently",)),
        (("sessions", "end", "--user", ALICE), (ALICE, "2 personal access tokens")),
        (("keys", "retire", "--all"), ("2 keys", "JWT")),
        (
            ("db", "downgrade", "base"),
            ("database authapi.db", "2 accounts", "2 sessions and tokens", "to nothing"),
        ),
        (("db", "downgrade", "-1"), ("2 accounts", "1 revision ")),
        (("db", "downgrade", "0001"), ("2 accounts", "to 0001", "revision")),
    ],
    ids=" ".join,
)
def test_without_a_terminal_yes_is_required(
    accounts: Run, command: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    before, keys = state_of(accounts), accounts("keys", "list", "--json").stdout
    for text in ("", "y\n", "yes\n"):
        line = failed_with_one_line(accounts(*command, text=text))
        assert "--yes" in line
        for part in parts:
            assert part in line
    assert state_of(accounts) == before
    assert accounts("keys", "list", "--json").stdout == keys
    done = accounts(*command, "--yes")
    assert (done.returncode, done.stderr) == (0, "")


def test_downgrade_without_steps_needs_no_confirmation(accounts: Run) -> None:
    _, _, revision = before = state_of(accounts)
    assert accounts("db", "downgrade", revision).returncode == 0
    assert state_of(accounts) == before
    assert "nowhere" in failed_with_one_line(accounts("db", "downgrade", "nowhere"))
    assert accounts("db", "downgrade", "base", "--yes").returncode == 0
    assert accounts("db", "downgrade", "base").stdout == "The schema is at nothing.\n"


def test_missing_user_is_reported_before_confirmation(accounts: Run) -> None:
    for command in (("users", "delete"), ("sessions", "end", "--user")):
        line = failed_with_one_line(accounts(*command, "carol@example.com"))
        assert "user not found" in line


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["n\n", "\n", "x\nno\n", "\x04"])
def test_any_answer_but_yes_changes_nothing(
    accounts: Run, on_terminal: OnTerminal, answer: str
) -> None:
    before = state_of(accounts)
    code, shown = on_terminal("users", "delete", ALICE, answer=answer)
    assert code == 1
    assert f"2 personal access tokens of {ALICE}" in shown
    assert "Continue? [y/N]" in shown
    assert state_of(accounts) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("users", "delete", ALICE),
        ("sessions", "end", "--user", ALICE),
        ("keys", "retire", "--all"),
    ],
    ids=" ".join,
)
def test_yes_on_a_terminal_confirms(
    accounts: Run, on_terminal: OnTerminal, command: tuple[str, ...]
) -> None:
    code, shown = on_terminal(*command, answer="y\n")
    assert code == 0, shown
    assert "This " in shown


@pytest.mark.slow
def test_the_name_of_the_database_confirms_a_downgrade(
    accounts: Run, on_terminal: OnTerminal
) -> None:
    before = state_of(accounts)
    for answer in ("y\n", "\n", "authapi\n", "\x04"):
        code, shown = on_terminal("db", "downgrade", "base", answer=answer)
        assert code == 1
        assert "Type authapi.db to go on" in shown
        assert state_of(accounts) == before
    code, shown = on_terminal("db", "downgrade", "base", answer="authapi.db\n")
    assert code == 0, shown
    assert re.search(r"0002 -> 0001 add user names \.\.\. done \d+\.\d s", shown)
    assert accounts("db", "current").stdout == "nothing\n"
    code, shown = on_terminal("db", "upgrade", answer="")
    assert code == 0, shown
    assert re.search(r"nothing -> 0001 create the tables \.\.\. done \d+\.\d s", shown)


def test_production_destroys_only_if_told_so(run: Run, sqlite_url: str) -> None:
    production = {
        "env": "production",
        "secret": "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c",
        "public_url": "https://auth.example.com",
        "database_url": sqlite_url,
        "allow_sqlite": "true",
    }
    for revision in ("base", f"-{int(number(migrations.head()))}"):
        line = failed_with_one_line(run("db", "downgrade", revision, "--yes", **production))
        assert "add --destroy" in line
    line = failed_with_one_line(run("db", "downgrade", "base", "--destroy", **production))
    assert "--yes" in line
    assert run("db", "downgrade", "-1", "--yes", **production).returncode == 0
    assert run("db", "downgrade", "base", "--yes", "--destroy", **production).returncode == 0
    assert run("db", "current", **production).stdout == "nothing\n"
