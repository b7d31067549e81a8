"""`authapi keys`: manual rotation, retirement and encryption of signing keys."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Run, failed_with_one_line
from tests.servers.process import free_port
from tests.servers.webhooks import SECRET

OLD, NEW = "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "9a8b7c6d5e4f30211203f4e5d6c7b8a9"


@pytest.fixture
def keys(run: Run, sqlite_url: str) -> Run:
    """Runs `authapi keys ...` on an empty database."""

    def keys(*arguments: str, text: str = "", secret: str = OLD, **settings: str) -> Any:
        settings = {"secret": secret, "database_url": sqlite_url, **settings}
        return run("keys", *arguments, text=text, **settings)

    return keys


@pytest.fixture
def started(keys: Run, run: Run, sqlite_url: str) -> Run:
    """Runs `authapi keys ...` on a database with the keys of a first start."""
    password = "correct horse battery staple"
    settings = {"secret": OLD, "database_url": sqlite_url}
    done = run("users", "create", "root@example.com", text=password, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return keys


def listed(keys: Run) -> dict[str, dict[str, Any]]:
    """Returns the keys by state; in these tests, each state has at most one key."""
    done = keys("list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return {row["state"]: row for row in json.loads(done.stdout)["items"]}


def test_list_is_empty_before_the_first_start(keys: Run) -> None:
    done = keys("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No keys yet.\n")


def test_list_shows_no_private_key(started: Run) -> None:
    found = listed(started)
    assert found.keys() == {"next", "active"}
    for row in found.values():
        assert row.keys() == {
            *("kid", "algorithm", "state"),
            *("created_at", "activated_at", "retired_at", "published_until"),
        }
    table = started("list").stdout.splitlines()
    assert table[0].split()[:3] == ["kid", "algorithm", "state"]
    assert len(table) == 3


def test_rotate_waits_for_verifiers_unless_early(started: Run) -> None:
    before = listed(started)
    assert "--early" in failed_with_one_line(started("rotate"))
    assert listed(started) == before
    done = started("rotate", "--early", "--json")
    assert json.loads(done.stdout) == {"kid": before["next"]["kid"], "algorithm": "ES256"}
    after = listed(started)
    assert after["active"]["kid"] == before["next"]["kid"]
    assert after["retired"]["kid"] == before["active"]["kid"]
    assert after["retired"]["published_until"] > after["retired"]["retired_at"]


def test_retire_ends_one_key(started: Run) -> None:
    before = listed(started)
    done = started("retire", before["active"]["kid"])
    assert (done.returncode, done.stdout) == (0, "Retired: 1\n")
    after = listed(started)
    assert after["active"]["kid"] == before["next"]["kid"]
    assert "retired" not in after
    assert "key not found" in failed_with_one_line(started("retire", before["active"]["kid"]))


@pytest.mark.parametrize("arguments", [(), ("x", "--all")], ids=["nothing", "both"])
def test_retire_needs_either_a_key_or_all(started: Run, arguments: tuple[str, ...]) -> None:
    assert "either a key or --all" in failed_with_one_line(started("retire", *arguments))


def test_rewrap_changes_the_secret_and_keeps_the_keys(started: Run) -> None:
    before = listed(started)
    done = started("rewrap", text=NEW + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Encrypted: 2.")
    assert NEW not in done.stdout
    assert listed(started) == before
    for command in (("rotate", "--early"), ("rewrap",), ("retire", before["next"]["kid"])):
        message = failed_with_one_line(started(*command, text=OLD + "\n"))
        assert "another secret" in message
        assert OLD not in message
    assert started("rotate", "--early", secret=NEW).returncode == 0


@pytest.mark.parametrize("text", ["", "\n", "x" * 31 + "\n"])
def test_rewrap_rejects_a_short_secret(started: Run, text: str) -> None:
    assert "32 characters" in failed_with_one_line(started("rewrap", text=text))


def test_retire_all_works_without_the_old_secret(started: Run) -> None:
    before = listed(started)
    done = started("retire", "--all", "--yes", secret=NEW)
    assert (done.returncode, done.stdout) == (0, "Retired: 2\n")
    assert listed(started) == {}
    assert started("rotate", "--early", secret=NEW).returncode == 0
    assert {row["kid"] for row in before.values()}.isdisjoint(
        row["kid"] for row in listed(started).values()
    )


def test_rewrap_finishes_a_change_of_the_secret(started: Run) -> None:
    before = listed(started)
    change = {"secret": NEW, "secret_previous": OLD}
    for rows in (2, 0):
        done = started("rewrap", **change)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Encrypted: {rows}. Repeat until it is 0")
    assert listed(started) == before
    assert started("rotate", "--early", secret=NEW).returncode == 0
    assert "another secret" in failed_with_one_line(started("rotate", "--early", secret=OLD))


def test_commands_write_under_the_new_secret_after_the_change(
    started: Run, run: Run, sqlite_url: str
) -> None:
    change = {"secret": NEW, "secret_previous": OLD, "database_url": sqlite_url}
    webhooks = {
        "webhook_urls": f"http://127.0.0.1:{free_port()}/",
        "webhook_secret": SECRET,
    }
    for number in (2, 0):
        assert started("rewrap", **change).stdout.startswith(f"Encrypted: {number}.")
    for queueing in (  # with the keys locked, unlocked and open
        ("users", "import", "-"),
        ("sessions", "end", "--all", "--yes"),
        ("users", "deactivate", "bob@example.com"),
    ):
        text = json.dumps({"email": "bob@example.com"})
        done = run(*queueing, text=text, **change, **webhooks)
        assert (done.returncode, done.stderr) == (0, ""), queueing
        # The webhook of the event is not among the rows under the previous secret.
        assert started("rewrap", **change).stdout.startswith("Encrypted: 0."), queueing
