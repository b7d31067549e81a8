"""Deletion of an account that rows of an application refer to: refused, and nothing changes."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from authapi import Settings, create_app
from authapi.domain.user import User
from authapi.errors import AccountInUse
from authapi.testing import PASSWORD, Client, client
from tests.cli.conftest import failed_with_one_line
from tests.servers.forked import Forking
from tests.storage.rows import sql
from tests.web.responses import problem

TABLES = (
    *("users", "sessions", "refresh_families", "email_tokens", "events", "outbox"),
    "signing_keys",
)
REFUSING = {
    "no action": "",
    "restrict": "ON DELETE RESTRICT",
    "deferred": "DEFERRABLE INITIALLY DEFERRED",
    "deferred restrict": "ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED",
}
ALLOWING = {
    "cascade": ("ON DELETE CASCADE", []),
    "set null": ("ON DELETE SET NULL", [(None,)]),
    "deferred cascade": ("ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED", []),
}


def refer(url: str, user: User, action: str) -> None:
    """Stores a row of an application that refers to `user`."""
    kind, key = ("CHAR(32)", user.id.hex) if url.startswith("sqlite") else ("UUID", str(user.id))
    sql(
        url,
        f"CREATE TABLE invoices (user_id {kind} REFERENCES authapi_users (id) {action})",
        f"INSERT INTO invoices VALUES ('{key}')",
    )


def contents(url: str) -> list[object]:
    return [sorted(sql(url, f"SELECT * FROM authapi_{table}"), key=str) for table in TABLES]


def url_of(api: Client) -> str:
    return api.services.settings.resolved_database_url


@pytest.fixture
def dropped(database_url: str) -> Iterator[None]:
    """Drops the table of the application: the tests of this folder share a database."""
    yield
    sql(database_url, "DROP TABLE IF EXISTS invoices")


@pytest.fixture(params=REFUSING)
async def user(request: pytest.FixtureRequest, api_on_each: Client, dropped: None) -> User:
    """An account with logins, and with an invoice."""
    found = await api_on_each.create_user("alice@example.com")
    await api_on_each.login(found, strategy="jwt")
    refer(url_of(api_on_each), found, REFUSING[request.param])
    return found


async def test_own_account(api_on_each: Client, user: User) -> None:
    before = contents(url_of(api_on_each))
    answer = await api_on_each.delete("/me")
    problem(answer, 409, "account_in_use")
    assert "invoices" not in answer.text
    assert contents(url_of(api_on_each)) == before
    assert (await api_on_each.get("/me")).json()["id"] == str(user.id)
    sql(url_of(api_on_each), "DELETE FROM invoices")
    assert (await api_on_each.delete("/me")).status_code == 204
    assert sql(url_of(api_on_each), "SELECT id FROM authapi_users") == []


async def test_account_of_another_user(api_on_each: Client, user: User) -> None:
    root = await api_on_each.create_user(is_superuser=True)
    api_on_each.headers.pop("Authorization")
    await api_on_each.login(root, strategy="jwt")
    before = contents(url_of(api_on_each))
    problem(await api_on_each.delete(f"/admin/users/{user.id}"), 409, "account_in_use")
    assert contents(url_of(api_on_each)) == before
    sql(url_of(api_on_each), "DELETE FROM invoices")
    assert (await api_on_each.delete(f"/admin/users/{user.id}")).status_code == 204


async def test_service_raises(api_on_each: Client, user: User) -> None:
    accounts = api_on_each.services.accounts
    with pytest.raises(AccountInUse):
        await accounts.deletion.delete(user.id)
    async with api_on_each.services.database.read() as store:
        assert await store.users.find(user.id) == user


async def test_command(api_on_each: Client, user: User, forking: Forking, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATABASE_URL": url_of(api_on_each),
        "AUTHAPI_DATA_DIR": str(api_on_each.services.settings.data_dir),
    }
    before = contents(url_of(api_on_each))
    command = ("users", "delete", user.email, "--yes")
    done = await asyncio.to_thread(forking.run, command, environment, tmp_path)
    assert "account is in use" in failed_with_one_line(done)
    assert contents(url_of(api_on_each)) == before


@pytest.mark.parametrize("action", ALLOWING)
async def test_rows_follow_their_account(api_on_each: Client, dropped: None, action: str) -> None:
    alice = await api_on_each.create_user()
    clause, left = ALLOWING[action]
    refer(url_of(api_on_each), alice, clause)
    await api_on_each.login(alice, strategy="jwt")
    assert (await api_on_each.delete("/me")).status_code == 204
    assert sql(url_of(api_on_each), "SELECT user_id FROM invoices") == left


async def test_the_document_names_the_status(api: Client) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]
    for path in ("/me", "/admin/users/{user_id}"):
        assert "409" in paths[path]["delete"]["responses"]


async def test_other_violations_at_the_commit_stay_errors(sqlite_url: str) -> None:
    """Only a transaction that deletes an account can find it in use."""
    sql(
        sqlite_url,
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE orphans (id REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER fail AFTER INSERT ON authapi_users BEGIN"
        " INSERT INTO orphans VALUES (1); END",
    )
    async with client(create_app(Settings(database_url=sqlite_url))) as api:  # type: ignore[arg-type]
        body = {"email": "a@example.com", "password": PASSWORD}
        problem(await api.post("/register", json=body), 500, "internal_error")
