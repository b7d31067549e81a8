"""Each command that changes something records it: a list of all commands, with their events."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from authapi.cli.commands import _COMMANDS, _command
from authapi.domain.events import EventType
from tests.cli.conftest import Run
from tests.servers.webhooks import SECRET, Receiver

PASSWORD = "correct horse battery staple"
ALICE, BOB, CAROL, APP = (
    "alice@example.com",
    "bob@example.com",
    "carol@example.com",
    "mina.park@example.com",  # of the demo, with an authenticator app
)


@dataclass(frozen=True)
class Step:
    """A command with arguments, and the types of the events that it records, in their order.

    In the arguments, `{token}` is the id of a token of Alice, `{login}` that of a login, `{kid}`
    that of the signing key, and `{events}` a file with an event.
    """

    command: str
    arguments: Sequence[str] = ()
    events: Sequence[EventType] = ()
    text: str = PASSWORD


STEPS = (
    Step("users create", [ALICE], [EventType.ACCOUNT_REGISTERED]),
    Step("users invite", [BOB], [EventType.ACCOUNT_INVITED]),
    Step("users invite-again", [BOB], [EventType.INVITATION_RESENT]),
    Step("users reset-link", [ALICE], [EventType.PASSWORD_RESET_SENT]),
    Step("users username", [ALICE, "alice"], [EventType.USERNAME_CHANGED]),
    Step("users roles", [ALICE, "reader"], [EventType.ROLES_CHANGED]),
    Step("users superuser", [ALICE], [EventType.SUPERUSER_GRANTED]),
    Step("users superuser", [ALICE, "--off"], [EventType.SUPERUSER_REVOKED]),
    Step("users set-password", [ALICE], [EventType.PASSWORD_CHANGED], f"another {PASSWORD}"),
    Step("tokens create", [ALICE, "--name", "one"], [EventType.TOKEN_CREATED]),
    Step("tokens create", [ALICE, "--name", "two"], [EventType.TOKEN_CREATED]),
    Step("tokens create", [ALICE, "--name", "three"], [EventType.TOKEN_CREATED]),
    Step("tokens end", ["{token}"], [EventType.TOKEN_ENDED]),
    Step("sessions end", ["{token}"], [EventType.TOKEN_ENDED]),
    Step("sessions end", ["{login}"], [EventType.SESSION_ENDED]),
    Step("sessions end", ["--user", ALICE, "--yes"], [EventType.SESSIONS_ENDED]),
    Step("sessions end", ["--all", "--yes"], [EventType.ALL_SESSIONS_ENDED]),
    Step("events reapply", ["{events}", "--since", "2020-01-01"], [EventType.EVENTS_REAPPLIED]),
    Step("users deactivate", [ALICE], [EventType.ACCOUNT_DEACTIVATED]),
    Step("users activate", [ALICE], [EventType.ACCOUNT_ACTIVATED]),
    Step("users reset-factors", [APP, "--yes"], [EventType.FACTORS_RESET]),
    Step("users import", ["-"], [EventType.ACCOUNT_IMPORTED], json.dumps({"email": CAROL})),
    Step("users delete", [CAROL, "--yes"], [EventType.ACCOUNT_DELETED]),
    Step("mail test", [ALICE], [EventType.MAIL_TESTED]),
    Step("mail retry", [], [EventType.DELIVERIES_RETRIED]),
    Step("mail retry", ["--requests"], [EventType.DELIVERIES_RETRIED]),
    Step("webhooks test", [], [EventType.WEBHOOK_TESTED]),
    Step("webhooks retry", [], [EventType.DELIVERIES_RETRIED]),
    Step("keys rotate", ["--early"], [EventType.KEY_ROTATED]),
    Step("keys retire", ["{kid}"], [EventType.KEY_ROTATED, EventType.KEY_RETIRED]),
    Step("keys rewrap", [], [EventType.KEYS_REWRAPPED], "0123456789abcdef" * 4),
)
"""Every command that changes what the service knows, in an order in which each has something to
change."""
READING = (
    Step("config"),
    Step("db check"),
    Step("db current"),
    Step("doctor"),
    Step("events export"),
    Step("events list"),
    Step("keys list"),
    Step("mail list"),
    Step("openapi"),
    Step("sessions list", [APP]),
    Step("stats"),
    Step("strategies"),
    Step("tokens list"),
    Step("users export"),
    Step("users factors", [APP]),
    Step("users list"),
    Step("users show", [APP]),
    Step("webhooks list"),
)
"""Every command that changes nothing."""
UNRECORDED: Mapping[str, str] = {
    "db upgrade": "changes the schema, and with it the table of events",
    "db downgrade": "as db upgrade",
    "demo": "records the events of the lives that it invents, with their times (test_demo)",
    "events tail": "only reads, until it is interrupted (test_tailing)",
    "passwords calibrate": "opens no database",
    "providers check": "opens no database",
    "providers list": "opens no database",
    "prune": "removes rows, as the running service does without an event",
    "secret new": "opens no database",
    "serve": "records what requests and jobs change",
    "sessions prune": "removes rows of what has ended, whose end has an event",
    "verify": "opens no database",
}
"""The other commands, and why no event tells of them."""


def commands() -> Iterator[str]:
    """The names of all commands that do something, those of groups with the name of the group."""
    for name in _COMMANDS:
        found = typer.main.get_command(_command(name))
        assert isinstance(found, TyperGroup)
        command = found.commands[name]
        if isinstance(command, TyperGroup):
            yield from (f"{name} {inner}" for inner in command.commands)
        else:
            yield name


def rows_of(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """The rows of every table."""
    with closing(sqlite3.connect(file)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {
            name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
            for (name,) in names
        }


def ask(file: Path, statement: str, *values: str) -> Sequence[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement, values).fetchall()


@pytest.fixture
def settings() -> Iterator[dict[str, str]]:
    with Receiver() as receiver:
        yield {
            "login_identifier": "both",
            "scopes": "read=Read",
            "roles": "reader=read",
            "webhook_secret": SECRET,
            "webhook_urls": receiver.url,
        }


@pytest.fixture
def file(run: Run, settings: Mapping[str, str], tmp_path: Path) -> Path:
    """The database of the commands, with the people of the demo."""
    done = run("demo", **settings)
    assert done.returncode == 0, done.stderr
    [found] = (tmp_path / "data").glob("*.db")
    return found


def test_every_command_is_listed_with_its_events() -> None:
    writing = {step.command for step in STEPS}
    reading = {step.command for step in READING}
    listed = [*writing, *reading, *UNRECORDED]
    assert sorted(listed) == sorted(commands())
    assert all(step.events for step in STEPS)


def test_commands_record_what_they_change(
    run: Run, file: Path, settings: Mapping[str, str]
) -> None:
    before = rows_of(file)
    for step in READING:
        done = run(*step.command.split(), *step.arguments, **settings)
        assert done.returncode == 0, (step, done.stderr)
        assert rows_of(file) == before, step
    for step in STEPS:
        assert recorded(run, file, settings, step) == list(step.events), step


def recorded(run: Run, file: Path, settings: Mapping[str, str], step: Step) -> Sequence[EventType]:
    """Runs the command; returns the types of the events that it has recorded."""
    [(last,)] = ask(file, "SELECT max(id) FROM authapi_events")
    if "retry" in step.command:  # as if every attempt had failed
        ask(file, "UPDATE authapi_outbox SET failed_at = created_at, error = 'away'")
        if "--requests" in step.arguments:
            ask(file, "UPDATE authapi_outbox SET kind = 'request' WHERE kind = 'mail'")
    arguments = [argument.format_map(_Ids(file)) for argument in step.arguments]
    done = run(*step.command.split(), *arguments, text=f"{step.text}\n", **settings)
    assert done.returncode == 0, (step, done.stderr)
    statement = "SELECT type, actor_id, ip FROM authapi_events WHERE id > ? ORDER BY id"
    found = ask(file, statement, str(last))
    # An operator at the command line has no account and no address.
    assert all(row[1:] == (None, None) for row in found), step
    return [EventType(str(row[0])) for row in found]


class _Ids(dict[str, str]):
    """Finds an id when an argument needs it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __missing__(self, name: str) -> str:
        if name == "events":
            found = "01939e5e-0000-7000-8000-000000000001"
            event = {"id": found, "at": "2026-11-30T08:00:00Z", "type": "login"}
            path = self._file.with_name("events.jsonl")
            path.write_text(json.dumps(event))
            return str(path)
        owner = "user_id = (SELECT id FROM authapi_users WHERE email = ?)"
        statements = {
            "token": (f"SELECT id FROM authapi_sessions WHERE {owner} AND kind = 'token'", ALICE),
            "login": (f"SELECT id FROM authapi_sessions WHERE {owner} AND kind = 'session'", APP),
            "kid": ("SELECT kid FROM authapi_signing_keys WHERE state = 'active'",),
        }
        statement, *values = statements[name]
        return str(ask(self._file, statement, *values)[0][0])
