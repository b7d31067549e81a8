"""The service and its commands under other names of the tables."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from authapi import Settings, create_app
from authapi.errors import ConfigurationError
from authapi.orm import ORM
from authapi.settings import load_settings
from authapi.storage import migrations
from authapi.storage.models import tables_of
from authapi.storage.schema.names import DEFAULT_NAMES, TableNames
from authapi.testing import PASSWORD, Client, client
from tests.cli.conftest import failed_with_one_line
from tests.servers.forked import Forking
from tests.storage.rows import sql

LONGEST = TableNames("p" * 20, "auth")
REVISIONS = Path(__file__).parents[3] / "alembic" / "versions"


@pytest.fixture
def names(empty_url: str) -> TableNames:
    found = LONGEST if empty_url.startswith("postgresql") else replace(LONGEST, schema=None)
    ORM(prefix=found.prefix, schema=found.schema)  # other tests have models with default names
    return found


def settings_of(url: str, names: TableNames) -> Settings:
    return Settings(
        database_url=url,  # type: ignore[arg-type]
        table_prefix=names.prefix,
        database_schema=names.schema,
        migrate=True,
    )


async def life_of_an_account(api: Client) -> None:
    """Uses every table."""
    root = await api.create_user("root@example.com", is_superuser=True)
    alice = await api.create_user("alice@example.com", name="Alice")
    for strategy in ("jwt", "token", "session"):
        await api.login(alice, strategy=strategy)
        assert (await api.get("/me")).json()["name"] == "Alice"
    api.headers.pop("Authorization", None)
    api.cookies.clear()
    body = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
    refresh = (await api.post("/login", json=body)).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    assert (await api.post("/token", data=form)).status_code == 200
    assert (await api.post("/password/forgot", json={"email": alice.email})).status_code == 202
    assert (await api.get("/health/ready")).status_code == 200
    assert (await api.services.cleanup.run_once()).keys() >= {"sessions", "events"}
    await api.login(root, strategy="jwt")
    assert len((await api.get("/admin/users")).json()["items"]) == 2
    assert (await api.delete(f"/admin/users/{alice.id}")).status_code == 204
    assert len((await api.get("/admin/events")).json()["items"]) > 5


async def test_service_and_commands(
    empty_url: str, names: TableNames, forking: Forking, tmp_path: Path
) -> None:
    settings = settings_of(empty_url, names)
    async with client(create_app(settings)) as api:
        await life_of_an_account(api)
    migrations.check(empty_url, names=names)
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATABASE_URL": empty_url,
        "AUTHAPI_TABLE_PREFIX": names.prefix,
        "AUTHAPI_DATA_DIR": str(settings.data_dir),
        **({"AUTHAPI_DATABASE_SCHEMA": names.schema} if names.schema else {}),
    }
    for command, words in {
        ("db", "current"): migrations.head(),
        ("db", "check"): "matches this version",
        ("users", "list"): "root@example.com",
        ("doctor",): f"schema at {migrations.head()}",
    }.items():
        done = await asyncio.to_thread(forking.run, command, environment, tmp_path)
        assert words in done.stdout, (command, done)
    plain = {name: value for name, value in environment.items() if "TABLE_PREFIX" not in name}
    done = await asyncio.to_thread(forking.run, ("db", "check"), plain, tmp_path)
    assert "is at nothing" in failed_with_one_line(done)
    confirmed = ("db", "downgrade", "base", "--yes")
    done = await asyncio.to_thread(forking.run, confirmed, environment, tmp_path)
    assert done.returncode == 0, done
    assert migrations.current(empty_url, names=names) is None


async def test_two_installations_in_one_process_and_database(
    empty_url: str, names: TableNames
) -> None:
    first, second = settings_of(empty_url, DEFAULT_NAMES), settings_of(empty_url, names)
    async with client(create_app(first)) as one, client(create_app(second)) as two:
        for api in (one, two):
            await api.create_user("same@example.com")
        alice = await one.create_user("alice@example.com")
        await one.login(alice, strategy="token")
        two.headers["Authorization"] = one.headers["Authorization"]
        assert (await one.get("/me")).status_code == 200
        assert (await two.get("/me")).status_code == 401
        for api in (one, two):
            assert (await api.services.cleanup.run_once()).keys() >= {"sessions"}
    assert len(sql(empty_url, "SELECT id FROM authapi_users")) == 2
    assert len(sql(empty_url, f"SELECT id FROM {names.place(names.table('users'))}")) == 1


def test_no_name_is_longer_than_postgresql_allows() -> None:
    names = [
        str(name)
        for table in tables_of(LONGEST).metadata.tables.values()
        for name in (
            table.name,
            *(constraint.name for constraint in table.constraints),
            *(index.name for index in table.indexes),
        )
    ]
    assert max(map(len, names)) == 63
    assert all(LONGEST.prefix in name for name in names)


def test_migrations_write_no_name_with_the_default_prefix() -> None:
    for path in REVISIONS.glob("*.py"):
        assert DEFAULT_NAMES.prefix not in path.read_text(), path.name


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TABLE_PREFIX", "Shop_", "AUTHAPI_TABLE_PREFIX"),
        ("TABLE_PREFIX", "a-b", "AUTHAPI_TABLE_PREFIX"),
        ("TABLE_PREFIX", "x;drop table y", "AUTHAPI_TABLE_PREFIX"),
        ("TABLE_PREFIX", "p" * 21, "AUTHAPI_TABLE_PREFIX"),
        ("DATABASE_SCHEMA", "a.b", "AUTHAPI_DATABASE_SCHEMA"),
        ("DATABASE_SCHEMA", "pg_temp", "must not begin with pg_"),
        ("DATABASE_SCHEMA", "auth", "database_schema needs PostgreSQL"),
    ],
)
def test_invalid_names_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    if value == "pg_temp":
        monkeypatch.setenv("AUTHAPI_DATABASE_URL", "postgresql://localhost/x")
    monkeypatch.setenv(f"AUTHAPI_{name}", value)
    with pytest.raises(ConfigurationError, match=words):
        load_settings()
