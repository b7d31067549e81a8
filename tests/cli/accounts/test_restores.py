"""`authapi sessions end --all` and `authapi events reapply`, as a real process."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Run, failed_with_one_line
from tests.servers.process import free_port
from tests.servers.webhooks import SECRET

PASSWORD = "correct horse battery staple"


@pytest.fixture
def token(run: Run) -> str:
    run("users", "create", "alice@example.com", text=PASSWORD)
    return run("tokens", "create", "alice@example.com", "--name", "x").stdout.strip()


def tokens(run: Run) -> int:
    found = json.loads(run("sessions", "list", "alice@example.com", "--json").stdout)
    return len(found["items"])


def test_all_sessions_end(run: Run, token: str) -> None:
    assert "1 personal access token of all accounts" in failed_with_one_line(
        run("sessions", "end", "--all")
    )
    kept = run("sessions", "end", "--all", "--keep-tokens", "--yes")
    assert kept.stdout.splitlines()[0] == "Ended: 0"
    old = run("sessions", "end", "--all", "--before", "2020-01-01", "--yes")
    assert old.stdout.splitlines()[0] == "Ended: 0"
    assert tokens(run) == 1
    done = run("sessions", "end", "--all", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Ended: 1",
        "One-time secrets ended: 0",
        "Outbox entries discarded: 0",
    ]
    assert tokens(run) == 0
    listed = run("events", "list", "--type", "all_sessions_ended", "--json")
    assert [event["detail"] for event in json.loads(listed.stdout)["items"]] == [
        {"before": None, "kept_tokens": False},
        {"before": "2020-01-01T00:00:00+00:00", "kept_tokens": False},
        {"before": None, "kept_tokens": True},
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either"),
        (("--all", "--user", "alice@example.com"), "give either"),
        (("--keep-tokens", "--user", "alice@example.com"), "need --all"),
        (("--before", "2020-01-01", "--user", "alice@example.com"), "need --all"),
        (("--all", "--before", "yesterday"), "times must be like"),
    ],
)
def test_options_that_exclude_each_other(run: Run, arguments: tuple[str, ...], words: str) -> None:
    assert words in failed_with_one_line(run("sessions", "end", *arguments))


def test_events_are_reapplied(run: Run, token: str, tmp_path: Path) -> None:
    data, saved, path = tmp_path / "data", tmp_path / "saved", tmp_path / "events.jsonl"
    shutil.copytree(data, saved)
    run("sessions", "end", "--user", "alice@example.com", "--yes")
    run("users", "set-password", "alice@example.com", text=f"another {PASSWORD}")
    roles = {"scopes": "reports:read=Read reports", "roles": "reader=reports:read"}
    assert run("users", "roles", "alice@example.com", "reader", **roles).returncode == 0
    path.write_text(run("events", "export").stdout)
    shutil.rmtree(data)
    saved.rename(data)
    assert tokens(run) == 1

    done = run("events", "reapply", str(path), "--since", "2020-01-01")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Reapplied: 2",
        "  password_changed: 1",
        "  sessions_ended: 1",
        "Known already: 0",
        "Without account: 0",
    ]
    assert done.stderr.splitlines() == ["repeat by hand: 1 roles_changed"]
    assert tokens(run) == 0
    again = run("events", "reapply", str(path), "--since", "2020-01-01")
    assert again.stdout.splitlines() == [
        "Reapplied: 0",
        "Known already: 2",
        "Without account: 0",
    ]


def test_a_bad_line_leaves_everything(run: Run, token: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    run("users", "deactivate", "alice@example.com")
    lines = run("events", "export").stdout
    run("users", "activate", "alice@example.com")
    path.write_text(lines + "{\n" * 30)
    done = run("events", "reapply", str(path), "--since", "2020-01-01")
    assert done.returncode == 1
    assert done.stdout == ""
    errors = done.stderr.splitlines()
    number = len(lines.splitlines()) + 1
    assert errors[0] == f"line {number}: not JSON"
    assert errors[-2:] == ["and more", f"authapi: nothing was reapplied: {path} has 30 bad lines"]
    assert run("events", "list", "--type", "events_reapplied").stdout == ""


def test_what_is_refused_is_named(run: Run, tmp_path: Path) -> None:
    made = run("users", "create", "root@example.com", "--superuser", "--json", text=PASSWORD)
    root = json.loads(made.stdout)["id"]
    event = {
        "id": "01939e5e-0000-7000-8000-000000000001",
        "at": "2026-11-30T08:00:00Z",
        "type": "account_deleted",
        "user_id": root,
    }
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(event))
    done = run("events", "reapply", str(path), "--since", "2020-01-01")
    assert done.returncode == 1
    assert done.stderr.startswith(f"not reapplied: account_deleted of {root}: ")
    [line] = done.stderr.splitlines()
    assert len(line) > len(f"not reapplied: account_deleted of {root}: ")


def an_event(kind: str, at: str, number: int = 1, user: str | None = None) -> str:
    found = f"01939e5e-0000-7000-8000-{number:012}"
    return json.dumps({"id": found, "at": at, "type": kind, "user_id": user}) + "\n"


def test_a_pipe_is_read(run: Run, token: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    line = an_event("sessions_ended", "2026-11-30T08:00:00Z")
    writer = threading.Thread(target=path.write_text, args=(line,), daemon=True)
    writer.start()
    done = run("events", "reapply", str(path), "--since", "2020-01-01")
    writer.join(10)
    assert done.returncode == 0, done.stderr
    assert "Without account: 1" in done.stdout.splitlines()


def test_files_without_an_event_are_no_replay(run: Run, token: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "old").write_text(an_event("logout", "2020-01-01T00:00:00Z"))
    files = [str(tmp_path / name) for name in ("empty", "old")]
    done = run("events", "reapply", *files, "--since", "2026-11-30")
    line = failed_with_one_line(done)
    assert f"nothing was reapplied: no event since 2026-11-30 in {', '.join(files)}" in line
    assert run("events", "list", "--type", "events_reapplied").stdout == ""


def test_an_event_of_a_later_file_undoes_one_of_an_earlier_file(
    run: Run, token: str, tmp_path: Path
) -> None:
    shown = run("users", "show", "alice@example.com", "--json").stdout
    alice = json.loads(shown)["id"]
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(an_event("account_deactivated", "2026-11-30T08:00:00Z", 1, alice))
    two.write_text(an_event("account_activated", "2026-11-30T09:00:00Z", 2, alice))
    done = run("events", "reapply", str(two), str(one), "--since", "2020-01-01")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Reapplied: 1\n")
    shown = run("users", "show", "alice@example.com", "--json").stdout
    assert json.loads(shown)["is_active"] is True


def test_the_webhook_of_the_command_itself_is_not_discarded(run: Run, token: str) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    webhooks = {"webhook_urls": url, "webhook_secret": SECRET}
    run("sessions", "end", "--all", "--yes")  # with the mail about the new token
    for discarded in (0, 1, 1):  # that of the run before
        done = run("sessions", "end", "--all", "--before", "2100-01-01", "--yes", **webhooks)
        assert done.stdout.splitlines()[-1] == f"Outbox entries discarded: {discarded}"
