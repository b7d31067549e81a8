"""`authapi users` and `authapi sessions end --user`, as real processes."""

import asyncio
import json
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.federation.person import LinkedIdentity
from authapi.testing import client
from tests.cli.conftest import Result, Run, failed_with_one_line

ALICE = "alice@example.com"
PASSWORD = "correct horse battery staple"
SHOP = """
import sqlalchemy as sa
from pydantic import BaseModel
from authapi import AuthAPI, Profile
from authapi.orm import user_fk

class City(BaseModel):
    city: str
    size: int = 0

profiles = sa.Table(
    "profiles", sa.MetaData(),
    sa.Column("user_id", sa.Uuid, user_fk(ondelete="CASCADE"), primary_key=True),
    sa.Column("city", sa.String(20), nullable=False, unique=True),
    sa.Column("size", sa.Integer, nullable=False),
)
auth = AuthAPI(profile=Profile(table=profiles, create=City, update=City, read=City))
"""
SETTINGS = {"scopes": "a=A;b=B", "roles": "reader=a;editor=a b"}


@pytest.fixture
def people(run: Run) -> dict[str, dict[str, Any]]:
    """Creates the superuser root, and the users alice and bob."""
    found = {}
    for name, options in (("root", ["--superuser"]), ("alice", []), ("bob", [])):
        done = run("users", "create", f"{name}@example.com", "--json", *options, text=PASSWORD)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout)
    return found


def names(run: Run, *options: str) -> list[str]:
    done = run("users", "list", "--json", *options, **SETTINGS)
    assert done.returncode == 0, done.stderr
    return [user["email"].partition("@")[0] for user in json.loads(done.stdout)["items"]]


def test_list_filters_and_sorts(run: Run, people: dict[str, dict[str, Any]]) -> None:
    assert run("users", "roles", "alice@example.com", "reader", **SETTINGS).returncode == 0
    assert run("users", "deactivate", "bob@example.com").returncode == 0
    assert names(run) == ["root", "alice", "bob"]
    assert names(run, "--sort", "-created_at") == ["bob", "alice", "root"]
    assert names(run, "--sort", "email", "--limit", "2") == ["alice", "bob"]
    assert names(run, "--sort", "email", "--after", "BOB@example.com") == ["root"]
    assert names(run, "--email", "AL") == names(run, "--role", "reader") == ["alice"]
    assert names(run, "--email", "%") == []
    assert names(run, "--inactive") == ["bob"]
    assert names(run, "--active", "--no-superuser") == ["alice"]
    assert names(run, "--superuser") == ["root"]
    assert names(run, "--confirmed") == []
    assert names(run, "--unconfirmed", "--email", "b") == ["bob"]
    assert "no control characters" in failed_with_one_line(run("users", "list", "--email", "a\nb"))
    assert "nobody@" in failed_with_one_line(run("users", "list", "--after", "nobody@example.com"))


def test_roles_are_granted_and_revoked(run: Run, people: dict[str, dict[str, Any]]) -> None:
    def roles(*given: str) -> list[str]:
        done = run("users", "roles", "alice@example.com", *given, "--json", **SETTINGS)
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)["roles"]
        return found

    assert roles("editor", "reader") == ["editor", "reader"]
    assert roles("reader") == ["reader"]
    made = run("tokens", "create", "alice@example.com", "--name", "x", "--json", **SETTINGS)
    assert json.loads(made.stdout)["scopes"] == ["a"]
    beyond = run(
        *("tokens", "create", "alice@example.com", "--name", "x", "--scope", "b"), **SETTINGS
    )
    assert "do not have" in failed_with_one_line(beyond)
    assert roles() == []
    done = run("users", "roles", "alice@example.com", "nope", **SETTINGS)
    assert "AUTHAPI_ROLES" in failed_with_one_line(done)
    [token] = json.loads(run("sessions", "list", "alice@example.com", "--json", **SETTINGS).stdout)[
        "items"
    ]
    assert token["scopes"] == []


def test_last_superuser_cannot_be_demoted_or_deleted(
    run: Run, people: dict[str, dict[str, Any]]
) -> None:
    for command in (
        ("superuser", "root@example.com", "--off"),
        ("delete", "root@example.com", "--yes"),
    ):
        assert "last active superuser" in failed_with_one_line(run("users", *command))
    done = run("users", "superuser", "alice@example.com", "--json")
    assert json.loads(done.stdout)["is_superuser"] is True
    done = run("users", "superuser", people["root"]["id"], "--off", "--json")
    assert json.loads(done.stdout)["is_superuser"] is False
    assert run("users", "delete", people["root"]["id"], "--yes").stdout == "Deleted.\n"
    assert "user not found" in failed_with_one_line(run("users", "delete", "root@example.com"))
    assert names(run) == ["alice", "bob"]


def test_invite_and_invite_again(run: Run) -> None:
    done = run("users", "invite", "carol@example.com", "--name", "Carol", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["email"] == "carol@example.com"
    again = run("users", "invite", "CAROL@example.com")
    assert "is in use" in failed_with_one_line(again)
    done = run("users", "invite-again", "CAROL@example.com", "--json")
    assert json.loads(done.stdout)["email"] == "carol@example.com"
    waiting = json.loads(run("mail", "list", "--json").stdout)["items"]
    assert [entry["purpose"] for entry in waiting] == ["invitation", "invitation"]
    run("users", "set-password", "carol@example.com", text=f"{PASSWORD}\n")
    again = run("users", "invite-again", "carol@example.com")
    assert "cannot be invited" in failed_with_one_line(again)
    assert "sends no mail" in failed_with_one_line(
        run("users", "invite", "dan@example.com", mail_url="none:")
    )
    assert "e-mail address" in failed_with_one_line(run("users", "invite", "a@x\r\nBcc: b@y"))
    done = run("users", "invite", "dan@example.com", "--role", "reader", **SETTINGS)
    assert done.returncode == 0, done.stderr


def test_send_a_link_for_a_new_password(run: Run, people: dict[str, dict[str, Any]]) -> None:
    done = run("users", "reset-link", "ALICE@example.com", "--json")
    assert json.loads(done.stdout)["id"] == people["alice"]["id"]
    assert "token=" not in done.stdout
    waiting = json.loads(run("mail", "list", "--json").stdout)["items"]
    assert [entry["purpose"] for entry in waiting] == ["reset"]
    without_mail = run("users", "reset-link", "alice@example.com", mail_url="none:")
    assert "sends no mail" in failed_with_one_line(without_mail)
    run("users", "deactivate", "alice@example.com")
    refused = run("users", "reset-link", "alice@example.com")
    assert "activate it first" in failed_with_one_line(refused)
    assert "user not found" in failed_with_one_line(run("users", "reset-link", "x@example.com"))


def test_end_all_sessions_of_a_user(run: Run, people: dict[str, dict[str, Any]]) -> None:
    for name in ("x", "y"):
        run("tokens", "create", "alice@example.com", "--name", name)
    run("tokens", "create", "bob@example.com", "--name", "z")
    assert run("sessions", "end", "--user", "alice@example.com", "--yes").stdout == "Ended: 2\n"
    assert run("sessions", "end", "--user", "alice@example.com", "--yes").stdout == "Ended: 0\n"
    assert (
        len(json.loads(run("sessions", "list", "bob@example.com", "--json").stdout)["items"]) == 1
    )


def test_password_from_standard_input_is_normalized(run: Run) -> None:
    composed = "crème brûlée à la carte 47"
    decomposed = unicodedata.normalize("NFD", composed)

    async def log_in(data: Path) -> None:
        async with client(create_app(Settings(data_dir=data))) as api:
            for password in (composed, decomposed):
                body = {"email": ALICE, "password": password}
                assert (await api.post("/login", json=body)).status_code == 200

    data = Path.cwd() / "data"
    assert run("users", "create", ALICE, text=decomposed + "\n").returncode == 0
    asyncio.run(log_in(data))
    other = "une autre crème brûlée à la carte"
    composed, decomposed = other, unicodedata.normalize("NFD", other)
    assert run("users", "set-password", ALICE, text=decomposed + "\n").returncode == 0
    asyncio.run(log_in(data))
    assert "control character" in failed_with_one_line(
        run("users", "set-password", ALICE, text="by the sea,\tby the blue sea\n")
    )


def test_user_names(run: Run) -> None:
    both = {"login_identifier": "both"}
    for name, username in (("alice", "Alice"), ("bob", None)):
        options = ["--username", username] if username else []
        done = run(
            "users", "create", f"{name}@example.com", "--json", *options, text=PASSWORD, **both
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["username"] == username
    taken = "the user name ALICE is taken: another account has it, or had it until recently"
    done = run("users", "username", "bob@example.com", "ALICE", **both)
    assert failed_with_one_line(done) == f"authapi: {taken}"
    done = run("users", "create", "c@example.com", "--username", "ALICE", text=PASSWORD, **both)
    assert failed_with_one_line(done) == f"authapi: {taken}"
    done = run("users", "username", "bob@example.com", "a b", **both)
    assert failed_with_one_line(done).startswith("authapi: username: must be a user name:")
    shown = json.loads(run("users", "username", "alice", "Carol", "--json", **both).stdout)
    assert (shown["email"], shown["username"]) == ("alice@example.com", "Carol")
    one = json.loads(run("users", "show", "CAROL", "--json", **both).stdout)
    assert one == shown | {"identities": []}
    found = json.loads(run("users", "list", "--username", "CA", "--json", **both).stdout)["items"]
    assert found == [shown]
    assert failed_with_one_line(run("users", "show", "alice", **both)) == (
        "authapi: user not found: alice: see `authapi users list`"
    )
    events = run(
        "events", "list", "--user", "carol", "--type", "username_changed", "--json", **both
    )
    assert len(json.loads(events.stdout)["items"]) == 1
    assert (
        json.loads(run("users", "username", "carol", "--json", **both).stdout)["username"] is None
    )
    done = run("users", "username", "bob@example.com", "dan")
    assert "AUTHAPI_LOGIN_IDENTIFIER" in failed_with_one_line(done)


def test_accounts_get_own_columns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    settings = {"database_url": f"sqlite:///{tmp_path / 'shop.db'}"}
    assert run("db", "upgrade", **settings).returncode == 0
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("CREATE TABLE profiles (user_id, city UNIQUE, size)")

        def users(*arguments: str) -> Result:
            return run("--app", "shop:auth", "users", *arguments, text=PASSWORD, **settings)

        for sent, error in {
            "{": "--profile is not JSON, or has a member twice",
            '{"city": "A", "city": "B"}': "--profile is not JSON, or has a member twice",
            "7": "--profile: JSON: Input should be a valid dictionary",
            "{}": "--profile: city: Field required",
            '{"city": "Bern", "size": "L", "x": 1}': "--profile: size: Input should be a valid int",
        }.items():
            assert error in failed_with_one_line(users("create", ALICE, "--profile", sent))
        assert "city: Field required" in failed_with_one_line(users("create", ALICE))
        bern = '{"city": "Bern"}'
        created = users("create", ALICE, "--profile", bern)
        invited = users("invite", "bob@example.com", "--profile", '{"city": "Chur", "size": 3}')
        assert (created.stderr, invited.stderr) == ("", "")
        taken = users("invite", "eve@example.com", "--profile", bern)
        assert "city: is in use by another account" in failed_with_one_line(taken)
        rows = database.execute("SELECT city, size FROM profiles ORDER BY city").fetchall()
        assert rows == [("Bern", 0), ("Chur", 3)]
        accounts = database.execute("SELECT email FROM authapi_users ORDER BY email").fetchall()
        assert accounts == [(ALICE,), ("bob@example.com",)]


def test_own_columns_need_their_application(run: Run) -> None:
    done = run("users", "create", ALICE, "--profile", "{}", text=PASSWORD)
    assert "--profile needs an application with own columns" in failed_with_one_line(done)


def test_show_tells_who_may_log_in_at_providers(
    run: Run, tmp_path: Path, people: dict[str, dict[str, Any]]
) -> None:
    def identities() -> str:
        done = run("users", "show", ALICE)
        assert done.returncode == 0, done.stderr
        [line] = [line for line in done.stdout.splitlines() if line.startswith("identities")]
        return line.removeprefix("identities").strip()

    async def link() -> None:
        async with (
            client(create_app(Settings(data_dir=tmp_path / "data"))) as api,
            api.services.database.transaction() as store,
        ):
            for provider, subject, email in (
                ("acme", "1", "ada@id.example"),
                ("github", "1234", None),
                ("corp", "right\u202eleft", None),
            ):
                linked = LinkedIdentity(
                    id=new_id(),
                    user_id=UUID(people["alice"]["id"]),
                    provider=provider,
                    issuer=f"https://{provider}.example",
                    subject=subject,
                    email=email,
                    email_verified=False,
                    name=None,
                    created_at=now(),
                    last_login_at=None,
                )
                await store.identities.add(linked, auth_context=None)

    assert identities() == "-"
    asyncio.run(link())
    shown = identities()
    assert sorted(shown.split(", ")) == [
        "acme ada@id.example",
        "corp right?left",
        "github 1234",
    ]
    found = json.loads(run("users", "show", ALICE, "--json").stdout)["identities"]
    assert {(it["provider"], it["email"], it["subject"]) for it in found} == {
        ("acme", "ada@id.example", "1"),
        ("github", None, "1234"),
        ("corp", None, "right\u202eleft"),
    }
