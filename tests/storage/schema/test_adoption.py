"""Upgrades of a database that an older version of authapi or another application has filled."""

import asyncio
from dataclasses import replace

import pytest
import time_machine

from authapi import Settings, create_app
from authapi.errors import ConfigurationError
from authapi.orm import ORM
from authapi.storage import migrations
from authapi.storage.names import DEFAULT_NAMES, TableNames
from authapi.testing import PASSWORD, client
from tests.storage.rows import sql, tables
from tests.storage.schema import former

OTHER = TableNames("x_")


@pytest.fixture
def former_url(empty_url: str) -> str:
    """A database of the last version without a prefix."""
    former.restore(empty_url)
    return empty_url


@pytest.fixture(params=["default", "prefix", "schema"])
def names(request: pytest.FixtureRequest) -> TableNames:
    """Default names, another prefix, and a schema, which SQLite does not have."""
    chosen = {"default": DEFAULT_NAMES, "prefix": OTHER, "schema": TableNames(schema="auth")}
    found = chosen[request.param]
    if found.schema is None or "postgresql" in request.getfixturevalue("empty_url"):
        return found
    return replace(found, schema=None, prefix="auth_")


def prefix_of(names: TableNames) -> str:
    return names.place(names.prefix)


def test_former_tables_are_renamed_with_every_row(former_url: str, names: TableNames) -> None:
    before = former.contents(former_url)
    assert all(before.values()), "rows in every table"
    with_names = {
        **before,
        "users": [(*row, None, None, None, 0, None) for row in before["users"]],
        "sessions": [(*row, None, None) for row in before["sessions"]],
    }
    migrations.upgrade(former_url, names=names)
    assert former.contents(former_url, prefix_of(names)) == with_names
    assert migrations.current(former_url, names=names) == migrations.head()
    migrations.check(former_url, names=names)
    assert tables(former_url).keys().isdisjoint({*former.TABLES, "alembic_version"})
    migrations.upgrade(former_url, names=names)
    assert former.contents(former_url, prefix_of(names)) == with_names


def test_the_names_are_those_of_new_tables(former_url: str) -> None:
    migrations.upgrade(former_url)
    adopted = tables(former_url)
    migrations.downgrade(former_url, "base")
    assert tables(former_url) == {}
    migrations.upgrade(former_url)
    assert adopted == tables(former_url)


async def test_adopted_accounts_log_in_and_keep_their_tokens(
    former_url: str, names: TableNames
) -> None:
    await asyncio.to_thread(migrations.upgrade, former_url, names=names)
    ORM(prefix=names.prefix, schema=names.schema)  # other tests have models with default names
    settings = Settings(
        database_url=former_url,  # type: ignore[arg-type]
        secret=former.SECRET,  # type: ignore[arg-type]
        table_prefix=names.prefix,
        database_schema=names.schema,
    )
    backend = former_url.partition(":")[0]
    with time_machine.travel(former.WRITTEN):
        async with client(create_app(settings)) as api:
            body = {"email": "alice@example.com", "password": PASSWORD}
            login = await api.post("/login", json=body)
            assert login.json()["user"]["name"] == "Älice"
            api.cookies.clear()
            token = {"authorization": f"Bearer {former.PERSONAL_TOKENS[backend]}"}
            assert (await api.get("/me", headers=token)).status_code == 200
            form = {
                "grant_type": "refresh_token",
                "refresh_token": former.REFRESH_TOKENS[backend],
            }
            answer = await api.post("/token", data=form)
            assert answer.status_code == 200
            jwt = {"authorization": f"Bearer {answer.json()['access_token']}"}
            assert (await api.get("/me", headers=jwt)).status_code == 200


def test_revisions_of_another_application_stay(former_url: str) -> None:
    sql(former_url, "INSERT INTO alembic_version VALUES ('f00d')")
    migrations.upgrade(former_url)
    assert sql(former_url, "SELECT version_num FROM alembic_version") == [("f00d",)]
    assert migrations.current(former_url) == migrations.head()


def test_former_tables_of_an_older_revision_are_refused(former_url: str) -> None:
    sql(
        former_url,
        "UPDATE alembic_version SET version_num = '0008'",
        "DROP INDEX ix_sessions_previous_secret_hash",
        "ALTER TABLE sessions DROP COLUMN previous_secret_hash",
    )
    before = tables(former_url)
    with pytest.raises(ConfigurationError, match="at the former revision 0008: upgrade them"):
        migrations.upgrade(former_url)
    assert tables(former_url) == before
    assert sql(former_url, "SELECT version_num FROM alembic_version") == [("0008",)]


THEIRS = [
    "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(100))",
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY)",
    "CREATE TABLE events (id INTEGER PRIMARY KEY, happened VARCHAR(20))",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
    "INSERT INTO users VALUES (1, 'a@example.com')",
]


@pytest.mark.parametrize("revision", ["0009", "0001", "a1b2c3"])
def test_tables_of_another_application_are_not_adopted(empty_url: str, revision: str) -> None:
    sql(empty_url, *THEIRS, f"INSERT INTO alembic_version VALUES ('{revision}')")
    theirs = tables(empty_url)
    migrations.upgrade(empty_url)
    migrations.check(empty_url)
    assert {name: found for name, found in tables(empty_url).items() if name in theirs} == theirs
    assert sql(empty_url, "SELECT * FROM users") == [(1, "a@example.com")]
    assert sql(empty_url, "SELECT version_num FROM alembic_version") == [(revision,)]
    migrations.downgrade(empty_url, "base")
    assert tables(empty_url) == theirs


def test_taken_names_are_refused_in_one_sentence(empty_url: str) -> None:
    sql(empty_url, "CREATE TABLE authapi_outbox (id INTEGER)", "CREATE TABLE other (id INTEGER)")
    before = tables(empty_url)
    with pytest.raises(ConfigurationError) as caught:
        migrations.upgrade(empty_url)
    assert str(caught.value) == (
        "the database already has a table authapi_outbox, which authapi did not create: choose"
        " another AUTHAPI_TABLE_PREFIX"
    )
    assert tables(empty_url) == before
    assert migrations.current(empty_url) is None
    migrations.upgrade(empty_url, names=OTHER)
    migrations.check(empty_url, names=OTHER)


def test_taken_names_stop_an_adoption(former_url: str) -> None:
    sql(
        former_url,
        "CREATE VIEW authapi_users AS SELECT 1 AS one",
        "CREATE TABLE authapi_events (id INTEGER)",
    )
    before = tables(former_url)
    with pytest.raises(
        ConfigurationError, match="already has tables authapi_events, authapi_users"
    ):
        migrations.upgrade(former_url)
    assert tables(former_url) == before


def test_version_table_of_another_application_is_refused(empty_url: str) -> None:
    sql(empty_url, "CREATE TABLE authapi_version (id INTEGER, released VARCHAR(20))")
    before = tables(empty_url)
    for operation in (migrations.upgrade, migrations.current, migrations.require_current):
        with pytest.raises(ConfigurationError, match="a table authapi_version, which authapi did"):
            operation(empty_url)
    assert tables(empty_url) == before


def test_objects_of_an_application_on_former_tables_survive(former_url: str) -> None:
    kind = "CHAR(32)" if former_url.startswith("sqlite") else "UUID"
    sql(
        former_url,
        f"CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id {kind} REFERENCES users (id))",
        "INSERT INTO notes SELECT 1, id FROM users WHERE email = 'bob@example.com'",
        "CREATE INDEX theirs ON users (name)",
        "CREATE VIEW names AS SELECT u.name, n.id FROM users u JOIN notes n ON n.user_id = u.id",
    )
    if former_url.startswith("sqlite"):
        sql(
            former_url,
            "CREATE TABLE log (what TEXT)",
            "CREATE TRIGGER renamed AFTER UPDATE OF name ON users BEGIN"
            " INSERT INTO log VALUES (new.name); END",
        )
    migrations.upgrade(former_url)
    assert sql(
        former_url, "SELECT count(*) FROM notes n JOIN authapi_users u ON u.id = n.user_id"
    ) == [(1,)]
    sql(former_url, "UPDATE authapi_users SET name = 'Bob' WHERE email = 'bob@example.com'")
    assert sql(former_url, "SELECT name FROM names") == [("Bob",)]
    if former_url.startswith("sqlite"):
        assert sql(former_url, "SELECT what FROM log") == [("Bob",)]
        assert sql(former_url, "PRAGMA foreign_key_check") == []
        assert sql(former_url, "PRAGMA integrity_check") == [("ok",)]
    assert "theirs" in str(tables(former_url)["authapi_users"])


def test_the_schema_is_created_and_stays(postgres_url: str) -> None:
    names = TableNames(schema="Auth".lower())
    for _ in range(2):
        migrations.upgrade(postgres_url, names=names)
        migrations.check(postgres_url, names=names)
        migrations.downgrade(postgres_url, "base", names=names)
    schemas = sql(postgres_url, "SELECT nspname FROM pg_namespace WHERE nspname = 'auth'")
    assert schemas == [("auth",)]
    sql(postgres_url, "DROP SCHEMA auth CASCADE")


@pytest.mark.parametrize("options", ["", "?options=-csearch_path%3Dauth"], ids=["", "search_path"])
def test_the_schema_may_be_the_first_of_the_search_path(postgres_url: str, options: str) -> None:
    names = TableNames(schema="auth" if options else "public")
    url = f"{postgres_url}{options}"
    if options:
        sql(postgres_url, "CREATE SCHEMA auth")
    migrations.upgrade(url, names=names)
    migrations.check(url, names=names)
    assert migrations.current(url, names=names) == migrations.head()
    if options:
        sql(postgres_url, "DROP SCHEMA auth CASCADE")
