"""A database that is clean before each test: what it restores, on both databases."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.testing import CleanDatabase, client
from tests.servers.postgres import PostgresServer

TABLES = (
    "CREATE TABLE teams (id integer PRIMARY KEY, name text)",
    "CREATE TABLE notes (id integer PRIMARY KEY, team integer REFERENCES teams)",
    "INSERT INTO teams VALUES (1, 'red')",
    "INSERT INTO notes VALUES (1, 1)",
)
POSTGRES_TABLES = (
    *TABLES,
    "ALTER TABLE teams ADD note integer REFERENCES notes",
    """CREATE TABLE seen (id integer GENERATED ALWAYS AS IDENTITY,
    twice integer GENERATED ALWAYS AS (id * 2) STORED, "a column" text)""",
    """INSERT INTO seen ("a column") VALUES ('seed')""",
    "CREATE SCHEMA other",
    'CREATE TABLE other."Two words" (id serial)',
)


def run_statements(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Runs `statements`, and returns the rows of the last one."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as lite:
            rows = [lite.execute(text).fetchall() for text in statements][-1]
            lite.commit()
            return rows
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        cursor = [connection.execute(text) for text in statements][-1]
        return cursor.fetchall() if cursor.description else []


def prepare(url: str) -> None:
    run_statements(url, *(TABLES if url.startswith("sqlite") else POSTGRES_TABLES))


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[CleanDatabase]:
    """A database with tables of an application."""
    server = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgres").admin_url
    with CleanDatabase(server, prepare=prepare) as found:
        yield found


@pytest.fixture
def app(database: CleanDatabase) -> FastAPI:
    database.clean()
    return create_app(database.settings())


async def test_accounts_and_rows_of_the_application_are_gone(
    database: CleanDatabase, app: FastAPI
) -> None:
    for _ in range(2):
        async with client(app) as api:
            await api.login(await api.create_user("ada@shop.test"))
        run_statements(
            database.url,
            "INSERT INTO teams (id, name) VALUES (2, 'blue')",
            "INSERT INTO notes VALUES (2, 2)",
            "DELETE FROM notes WHERE id = 1",
            "UPDATE teams SET name = 'pink' WHERE id = 1",
        )
        database.clean()
        assert run_statements(database.url, "SELECT id, name FROM teams") == [(1, "red")]
        assert run_statements(database.url, "SELECT id, team FROM notes") == [(1, 1)]
        assert run_statements(database.url, "SELECT count(*) FROM authapi_users") == [(0,)]


async def test_a_running_application_survives(database: CleanDatabase, app: FastAPI) -> None:
    async with client(app) as api:
        first = await api.create_user("ada@shop.test")
        await asyncio.to_thread(database.clean)
        second = await api.create_user("ada@shop.test")
        assert first.id != second.id
        assert (await api.login(second)).status_code == 200


def test_sequences_and_generated_columns_are_restored(postgres: PostgresServer) -> None:
    add = """INSERT INTO seen ("a column") VALUES ('x') RETURNING id, twice"""
    with CleanDatabase(postgres.admin_url, prepare=prepare) as database:
        for _ in range(2):
            assert run_statements(database.url, add) == [(2, 4)]
            assert run_statements(
                database.url, 'INSERT INTO other."Two words" DEFAULT VALUES RETURNING id'
            ) == [(1,)]
            database.clean()
            assert run_statements(database.url, 'SELECT id, twice, "a column" FROM seen') == [
                (1, 2, "seed")
            ]


def test_the_database_is_removed(postgres: PostgresServer) -> None:
    with CleanDatabase() as lite, CleanDatabase(postgres.admin_url) as database:
        folder = Path(lite.environment["AUTHAPI_DATA_DIR"]).parent
        assert folder.is_dir()
        name = database.url.rpartition("/")[2]
        query = f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"
        assert run_statements(postgres.admin_url, query) == [(1,)]
    assert not folder.exists()
    assert run_statements(postgres.admin_url, query) == [(0,)]
    database.close()


def test_what_cannot_be_prepared_is_removed(postgres: PostgresServer) -> None:
    names: list[str] = []

    def fail(url: str) -> None:
        names.append(url.rpartition("/")[2])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        CleanDatabase(postgres.admin_url, prepare=fail)
    query = f"SELECT count(*) FROM pg_database WHERE datname = '{names[0]}'"
    assert run_statements(postgres.admin_url, query) == [(0,)]


def test_a_role_without_the_privilege_is_told(postgres: PostgresServer) -> None:
    run_statements(postgres.admin_url, "CREATE ROLE plain LOGIN PASSWORD 'plain words of a test'")
    host = postgres.admin_url.rpartition("@")[2]
    try:
        with pytest.raises(ConfigurationError, match="permission denied to create database"):
            CleanDatabase(f"postgresql://plain:plain%20words%20of%20a%20test@{host}")
    finally:
        run_statements(postgres.admin_url, "DROP ROLE plain")


def test_an_open_transaction_is_told(
    database: CleanDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("postgres", "sqlite"):
        name = "_LOCK_TIMEOUT" if module == "postgres" else "_TIMEOUT"
        monkeypatch.setattr(f"authapi.storage.snapshots.{module}.{name}", 1)
    database.clean()
    blocked = "UPDATE teams SET name = 'pink'"
    if database.url.startswith("sqlite"):
        with closing(sqlite3.connect(database.url.removeprefix("sqlite:///"))) as lite:
            lite.execute(blocked)
            with pytest.raises(StorageUnavailable):
                database.clean()
    else:
        with psycopg.connect(database.url.replace("+psycopg", "")) as connection:
            connection.execute(blocked)
            with pytest.raises(StorageUnavailable):
                database.clean()
            connection.rollback()
    database.clean()
    assert run_statements(database.url, "SELECT id, name FROM teams") == [(1, "red")]


def test_names_of_tables_are_those_of_the_settings(postgres: PostgresServer) -> None:
    with CleanDatabase(
        postgres.admin_url, table_prefix="shop_", database_schema="auth"
    ) as database:
        assert run_statements(database.url, "SELECT count(*) FROM auth.shop_users") == [(0,)]
        settings = database.settings()
        assert (settings.table_prefix, settings.database_schema) == ("shop_", "auth")
        database.clean()


def test_the_environment_gives_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with CleanDatabase(table_prefix="shop_") as database:
        for name, value in database.environment.items():
            monkeypatch.setenv(name, value)
        assert Settings() == database.settings()
        assert database.settings(registration="closed").registration == "closed"
