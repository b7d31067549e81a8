"""`authapi sessions list` and `authapi tokens list` of one user and of all."""

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from authapi import Settings, create_app
from authapi.testing import client
from authapi.web.schemas.token import PersonalTokenOut
from tests.cli.conftest import Run, failed_with_one_line

PASSWORD = "correct horse battery staple"


@pytest.fixture
def logins(run: Run, sqlite_url: str) -> Run:
    """Creates a login and two tokens of Alice, and a token of Bob; runs commands on them."""

    def here(*arguments: str, text: str = "") -> Any:
        return run(*arguments, text=text, database_url=sqlite_url)

    async def log_in() -> None:
        settings = Settings.isolated(
            database_url=sqlite_url, secret="3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c"
        )
        async with client(create_app(settings)) as api:
            body = {"email": "alice@example.com", "password": PASSWORD}
            assert (await api.post("/register", json=body)).status_code == 201
            assert (await api.post("/login", json=body)).status_code == 200

    asyncio.run(log_in())
    secret = {"secret": "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c", "database_url": sqlite_url}
    assert run("users", "create", "bob@example.com", text=PASSWORD, **secret).returncode == 0
    for user, name in (("alice", "a"), ("bob", "b"), ("alice", "c")):
        create = ("tokens", "create", f"{user}@example.com", "--name", name)
        assert run(*create, **secret).returncode == 0
    return here


def rows(logins: Run, *command: str) -> list[dict[str, Any]]:
    done = logins(*command, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return found


def test_those_of_all_users_have_their_owners(logins: Run) -> None:
    found = rows(logins, "sessions", "list", "--all")
    assert [(row["email"].partition("@")[0], row["name"]) for row in found] == [
        *(("alice", "c"), ("bob", "b"), ("alice", "a"), ("alice", None)),
    ]
    assert found[0]["user_id"] == found[2]["user_id"] != found[1]["user_id"]
    assert [row["name"] for row in rows(logins, "tokens", "list")] == ["c", "b", "a"]
    assert [row["name"] for row in rows(logins, "tokens", "list", "ALICE@example.com")] == [
        "c",
        "a",
    ]
    assert len(rows(logins, "sessions", "list", "alice@example.com")) == 3
    for command in (("sessions", "list"), ("sessions", "list", "bob@example.com", "--all")):
        assert "--all" in failed_with_one_line(logins(*command))


def test_options_of_pages_are_refused_for_one_user(logins: Run) -> None:
    for group in ("sessions", "tokens"):
        for option in (("--limit", "1"), ("--before", "01900000-0000-7000-8000-000000000000")):
            refused = logins(group, "list", "alice@example.com", *option)
            assert "--before and --limit are for" in failed_with_one_line(refused)


def test_tokens_as_json_have_the_names_of_the_api(logins: Run) -> None:
    own, names = rows(logins, "tokens", "list", "bob@example.com"), PersonalTokenOut.model_fields
    assert [row.keys() for row in own] == [names.keys()]
    assert own[0]["last_used_at"] is None
    every = rows(logins, "tokens", "list")
    assert [row.keys() for row in every] == [{*names, "user_id", "email"}] * 3
    assert every[1].items() >= own[0].items()
    first = json.loads(logins("tokens", "list", "--limit", "1", "--json").stdout)
    assert first == {"items": every[:1], "next": every[0]["id"]}


def test_pages_of_all(logins: Run) -> None:
    seen: list[str] = []
    before: tuple[str, ...] = ()
    while True:
        page = json.loads(
            logins("sessions", "list", "--all", "--limit", "3", "--json", *before).stdout
        )
        seen += [row["id"] for row in page["items"]]
        if page["next"] is None:
            break
        before = ("--before", page["next"])
    assert seen == [row["id"] for row in rows(logins, "sessions", "list", "--all")]
    notice = logins("tokens", "list", "--limit", "2").stderr
    assert notice.startswith("the first 2, next: --before ")
    later = ("tokens", "list", "--limit", "1", "--before", seen[0])
    assert logins(*later).stderr.startswith("1 more, next: --before ")


def test_expired_ones_are_not_listed(logins: Run, sqlite_url: str) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE authapi_sessions SET expires_at = ? WHERE name = 'b'", [past])
        database.execute(
            "UPDATE authapi_sessions SET idle_expires_at = ? WHERE name IS NULL", [past]
        )
        database.commit()
    assert [row["name"] for row in rows(logins, "sessions", "list", "--all")] == ["c", "a"]


def test_a_token_is_ended_by_its_id(logins: Run, run: Run, sqlite_url: str) -> None:
    ended = {"secret": "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c", "database_url": sqlite_url}
    *_, login = rows(logins, "sessions", "list", "--all")
    token, *_ = rows(logins, "tokens", "list")
    assert run("tokens", "end", login["id"], **ended).stdout == "Ended: 0\n"  # a login
    assert run("tokens", "end", token["id"], **ended).stdout == "Ended: 1\n"
    assert run("tokens", "end", token["id"], **ended).stdout == "Ended: 0\n"
    assert len(rows(logins, "sessions", "list", "--all")) == 3
    events = rows(logins, "events", "list", "--type", "token_ended")
    assert [event["session_id"] for event in events] == [token["id"]]
    assert "not an id" in failed_with_one_line(run("tokens", "end", "x", **ended))


def test_a_token_that_no_strategy_accepts_has_a_notice(run: Run) -> None:
    assert run("users", "create", "a@example.com", text=PASSWORD).returncode == 0
    create = ("tokens", "create", "a@example.com", "--name", "x", "--json")
    assert run(*create).stderr == ""
    made = run(*create, strategies="session")
    assert made.returncode == 0
    assert json.loads(made.stdout)["access_token"].startswith("aat_")
    assert made.stderr.startswith("AUTHAPI_STRATEGIES lacks token, ")
