"""`authapi events`, as a real process."""

import asyncio
import csv
import io
import json
from typing import Any

from authapi.domain.client import Client
from tests.cli.conftest import Run, failed_with_one_line
from tests.storage.rows import store_login

PASSWORD = "correct horse battery staple"


def test_list_and_export(run: Run) -> None:
    def rows(*options: str) -> list[dict[str, Any]]:
        done = run("events", "list", "--json", *options)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        return found

    made = run("users", "create", "alice@example.com", "--json", text=PASSWORD)
    alice = json.loads(made.stdout)["id"]
    run("users", "create", "bob@example.com", text=PASSWORD)
    run("tokens", "create", "alice@example.com", "--name", "x")
    kinds = [row["type"] for row in rows()]
    assert kinds[:3] == ["token_created", "account_registered", "account_registered"]
    assert {row["user_id"] for row in rows("--user", "ALICE@example.com")} == {alice}
    assert [row["type"] for row in rows("--user", alice, "--type", "token_created")] == [
        "token_created"
    ]
    assert rows("--since", "2020-01-01t00:00:00.0000000001z") == rows("--since", "2020-01-01")
    assert rows("--until", "2020-01-01") == rows("--since", "2999-01-01T00:00:00Z") == []
    assert rows("--ip", "192.0.2.1") == rows("--ip", "2001:DB8::1") == []
    assert [row["id"] for row in rows("--limit", "1")] == [rows()[0]["id"]]
    assert "token_created" in run("events", "list").stdout

    lines = run("events", "export", "--user", alice).stdout.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["token_created", "account_registered"]
    table = list(csv.DictReader(io.StringIO(run("events", "export", "--format", "csv").stdout)))
    assert [row["type"] for row in table] == kinds
    # Also events of a deleted account.
    run("users", "delete", alice, "--yes")
    assert rows("--user", alice)[0]["type"] == "account_deleted"


def test_invalid_filters_are_one_line_errors(run: Run) -> None:
    for option, value, words in (
        ("--since", "yesterday", "2026-11-23T08:00:00Z"),
        ("--until", "2026-13-01", "2026-11-23T08:00:00Z"),
        ("--until", "2026-11-23 08:00:00Z", "2026-11-23T08:00:00Z"),
        ("--until", "2026-11-23T08:00:00", "2026-11-23T08:00:00Z"),
        ("--since", "20261123", "2026-11-23T08:00:00Z"),
        ("--since", "2026-W48-1", "2026-11-23T08:00:00Z"),
        ("--user", "unknown@example.com", "user not found"),
        ("--user", "nemo", "user not found"),
        ("--user", "no name", "must be a user name"),
    ):
        assert words in failed_with_one_line(run("events", "list", option, value)), option
        assert words in failed_with_one_line(run("events", "export", option, value)), option
    assert run("events", "list", "--type", "nope").returncode == 2


def test_ip_filter_accepts_every_notation(run: Run, sqlite_url: str) -> None:
    for ip in ("2001:db8::1", "192.0.2.1"):
        asyncio.run(store_login(sqlite_url, Client(ip=ip)))
    for ip, asked in (
        ("2001:db8::1", "2001:DB8:0:0::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("192.0.2.1", "::ffff:c000:201"),
    ):
        done = run("events", "list", "--json", "--ip", asked, database_url=sqlite_url)
        assert [row["ip"] for row in json.loads(done.stdout)["items"]] == [ip], asked
        done = run("events", "export", "--ip", asked, database_url=sqlite_url)
        assert [json.loads(line)["ip"] for line in done.stdout.splitlines()] == [ip], asked


def test_invalid_ip_is_a_one_line_error(run: Run) -> None:
    for text in ("x", "", "192.0.2.1:80", "2001:db8::/32"):
        for command in ("list", "export"):
            line = failed_with_one_line(run("events", command, "--ip", text))
            assert line == "authapi: ip: must be an IPv4 or IPv6 address"
