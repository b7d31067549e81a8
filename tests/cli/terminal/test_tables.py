"""Tables on a terminal and in a pipe, and the notices of lists."""

import io
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
from rich.cells import cell_len

from authapi.cli.terminal.tables import Continuation, print_list, print_one, print_rows
from tests.cli.conftest import Run

ROWS: list[dict[str, object]] = [
    {"id": "1", "name": "名前", "roles": [], "at": None},
    {"id": "2", "name": "[bold]x[/bold]\x1b[2J\nb:smile:", "roles": ["b", "a"], "at": None},
]
PASSWORD = "correct horse battery staple"
Shown = Callable[[Callable[[], None]], str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Makes standard output a terminal of 60 columns for one call; returns what it shows."""
    for name, value in {"COLUMNS": "60", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def shown(call: Callable[[], None]) -> str:
        output = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", output)
            call()
        return output.getvalue()

    return shown


def test_the_columns_of_a_pipe_begin_where_a_terminal_shows_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(ROWS)
    header, first, second = capsys.readouterr().out.splitlines()
    starts = [
        cell_len(line[: line.index(value)])
        for line, value in ((header, "roles"), (first, "-"), (second, "a b"))
    ]
    assert starts == [starts[0]] * 3


def test_plain_lines_have_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, plain=True)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "id\tname\troles\tat"
    assert lines == ["1\t名前\t-\t-", "2\t[bold]x[/bold]?[2J?b:smile:\ta b\t-"]


def test_a_terminal_gets_colours_and_no_control_character_of_a_value(terminal: Shown) -> None:
    shown = terminal(partial(print_rows, ROWS))
    assert "\x1b[1m" in shown  # the bold heading
    assert "[bold]x[/bold]?[2J?b:smile:" in shown
    assert "\x1b[2J" not in shown
    assert "☺" not in shown


def test_no_color_is_honoured(terminal: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = terminal(partial(print_rows, [{"id": "1", "verdict": "error"}]))
    assert "\x1b[3" not in shown
    assert "error" in shown


def test_a_narrow_terminal_hides_empty_columns_and_keeps_ids(terminal: Shown) -> None:
    identifier = "01a21b1c-1a2b-7c3d-8e4f-5a6b7c8d9e0f"
    row = {"id": identifier, "name": None, "email": "long.name@example.com", "username": None}
    shown = terminal(partial(print_rows, [row, row]))
    assert shown.count(identifier) == 2
    assert "username" not in shown
    assert all(len(line) <= 90 for line in shown.splitlines())


def test_a_table_that_is_far_too_wide_becomes_a_block_for_each_row(terminal: Shown) -> None:
    row = {"id": "01a21b1c", "user_agent": "x" * 70, "name": None, "ip": "192.0.2.1"}
    shown = terminal(partial(print_rows, [row, {**row, "ip": "192.0.2.2"}]))
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).split() for line in shown.splitlines()]
    block = [["id", "01a21b1c"], ["user_agent", "x" * 70], ["ip", "192.0.2.1"]]
    assert lines[:4] == [*block, []]
    assert lines[-1] == ["ip", "192.0.2.2"]


def test_members_on_a_terminal(terminal: Shown) -> None:
    row = {"name": "[red]x", "at": datetime(2026, 11, 30, tzinfo=UTC)}
    shown = terminal(partial(print_one, row, as_json=False))
    assert "[red]x" in shown
    assert "2026-11-30 00:00:00Z" in shown


def test_secrets_on_a_terminal_are_in_one_piece(terminal: Shown) -> None:
    token = "aat_" + "x" * 70
    shown = terminal(partial(print_one, {"名": "b", "access_token": token}, as_json=False))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert lines == ["名            b", f"access_token  {token}"]
    secret = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    row = {"email": "long.name@example.com", "name": "A Long Name", "app_secret": secret}
    assert secret in terminal(partial(print_rows, [row]))


def test_lists_say_that_they_are_empty_or_end_early(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([], empty="No things.", as_json=False)
    assert capsys.readouterr() == ("", "No things.\n")
    more = Continuation("--after", "it's\x1b me", 300)
    print_list(ROWS, empty="", as_json=False, more=more)
    assert capsys.readouterr().err == "2 of 300, next: --after 'it'\"'\"'s? me'\n"
    print_list(ROWS, empty="", as_json=False, more=Continuation("--before", "7"))
    assert capsys.readouterr().err == "the first 2, next: --before 7\n"
    for total in (None, 300):
        later = Continuation("--before", "7", total, is_later=True)
        print_list(ROWS, empty="", as_json=False, more=later)
        assert capsys.readouterr().err == "2 more, next: --before 7\n"
    print_list(ROWS, empty="", as_json=True, more=more)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"items": ROWS, "next": "it's\x1b me"}
    assert err == ""
    print_list([], empty="No things.", as_json=True)
    assert capsys.readouterr() == ('{\n  "items": [],\n  "next": null\n}\n', "")


def test_lists_of_accounts_and_events_go_on(run: Run) -> None:
    for name in "abc":
        assert run("users", "create", f"{name}@example.com", text=PASSWORD).returncode == 0
    seen: list[str] = []
    option: tuple[str, ...] = ()
    while True:
        page = json.loads(run("users", "list", "--limit", "2", "--json", *option).stdout)
        seen += [user["email"][0] for user in page["items"]]
        if page["next"] is None:
            break
        option = ("--after", page["next"])
    assert seen == ["a", "b", "c"]
    first = run("users", "list", "--limit", "2")
    assert first.stderr == "2 of 3, next: --after b@example.com\n"
    assert len(first.stdout.splitlines()) == 3
    assert run("users", "list", "--after", "b@example.com", "--limit", "2").stderr == ""
    later = run("users", "list", "--after", "a@example.com", "--limit", "1")
    assert later.stderr == "1 more, next: --after b@example.com\n"
    found = run("users", "list", "--limit", "1", "--unconfirmed")
    assert found.stderr == "the first 1, next: --after a@example.com\n"
    assert run("users", "list", "--superuser").stderr == "No accounts match.\n"
    page = json.loads(run("events", "list", "--limit", "2", "--json").stdout)
    rest = json.loads(run("events", "list", "--before", page["next"], "--json").stdout)
    whole = json.loads(run("events", "list", "--json").stdout)
    assert page["items"] + rest["items"] == whole["items"]
    assert rest["next"] is whole["next"] is None
    assert f"next: --before {page['next']}\n" in run("events", "list", "--limit", "2").stderr


def test_json_has_the_names_and_times_of_the_api(run: Run) -> None:
    made = run("users", "create", "a@example.com", "--superuser", "--json", text=PASSWORD)
    user = json.loads(made.stdout)
    assert user.keys() == {
        *("id", "email", "name", "username", "is_active", "is_superuser", "email_confirmed_at"),
        *("created_at", "updated_at", "locale", "roles"),
    }
    shown = json.loads(run("users", "show", "a@example.com", "--json").stdout)
    assert shown == {**user, "identities": []}
    assert user["created_at"].endswith("Z")
    assert "T" in user["created_at"]
    events = run("events", "list", "--type", "account_registered", "--json")
    [event] = json.loads(events.stdout)["items"]
    assert event["at"].endswith("Z")
    assert {"request_id", "user_agent", "actor_id"} <= event.keys()
    [key, *_] = json.loads(run("keys", "list", "--json").stdout)["items"]
    assert key["created_at"].endswith("Z")
    assert run("users", "list", "--plain").stdout.splitlines()[0].split("\t")[:2] == ["id", "email"]
