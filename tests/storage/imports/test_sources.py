"""Import sources: read-only access, and errors without passwords."""

import sqlite3
from pathlib import Path

import pytest

from authapi.errors import ConfigurationError
from authapi.storage.imports.sources import fastapi_users
from tests.storage.rows import sql

TABLE = """CREATE TABLE "user" (id CHAR(36) PRIMARY KEY, email VARCHAR(320) NOT NULL,
hashed_password VARCHAR(1024) NOT NULL, is_active BOOLEAN NOT NULL, is_superuser BOOLEAN NOT NULL,
is_verified BOOLEAN NOT NULL)"""
ROWS = """INSERT INTO "user" VALUES ('1', 'a@example.com', '$2b$12$abc', true, false, true),
('2', 'B@example.com', '$argon2id$', false, true, false)"""


def test_accounts_are_read_from_sqlite_and_postgresql(database_url: str) -> None:
    sql(database_url, TABLE, ROWS)
    found = sorted(fastapi_users(database_url), key=lambda account: str(account["email"]).lower())
    assert found == [
        {
            "email": "a@example.com",
            "password_hash": "$2b$12$abc",
            "is_active": True,
            "is_superuser": False,
            "email_confirmed": True,
        },
        {
            "email": "B@example.com",
            "password_hash": "$argon2id$",
            "is_active": False,
            "is_superuser": True,
            "email_confirmed": False,
        },
    ]
    assert [type(found[0][name]) for name in ("is_active", "is_superuser")] == [bool, bool]


@pytest.mark.parametrize("kind", ["CHAR(36)", "UUID", "INTEGER"])
def test_ids_are_read_on_request(database_url: str, kind: str) -> None:
    value = "7" if kind == "INTEGER" else "2f4b7c1a-0d3e-4a57-9c1b-6f2e8d5a4b3c"
    table = TABLE.replace("CHAR(36)", kind)
    sql(database_url, table, ROWS.split(",\n", maxsplit=1)[0].replace("'1'", f"'{value}'"))
    [account] = fastapi_users(database_url, with_ids=True)
    assert str(account["id"]) == value
    [account] = fastapi_users(database_url)
    assert "id" not in account


def test_table_may_have_another_name(database_url: str) -> None:
    schema = "main" if database_url.startswith("sqlite") else "public"
    for table in ("members", f"{schema}.members"):
        sql(database_url, TABLE.replace('"user"', "members"), ROWS.replace('"user"', "members"))
        assert len(list(fastapi_users(database_url, table))) == 2
        sql(database_url, "DROP TABLE members")
    odd = 'My "users"; --'
    quoted = '"' + odd.replace('"', '""') + '"'
    sql(database_url, TABLE.replace('"user"', quoted), ROWS.replace('"user"', quoted))
    assert len(list(fastapi_users(database_url, odd))) == 2


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "none", "none.user", "a\udcff"])
def test_other_names_are_one_error(database_url: str, name: str) -> None:
    sql(database_url, TABLE, ROWS)
    with pytest.raises(ConfigurationError, match="name"):
        list(fastapi_users(database_url, name))


def test_driver_of_the_url_is_ignored(sqlite_url: str, postgres_url: str) -> None:
    for url, driver in ((sqlite_url, "sqlite+aiosqlite"), (postgres_url, "postgresql+asyncpg")):
        sql(url, TABLE, ROWS)
        assert len(list(fastapi_users(driver + url[url.index(":") :]))) == 2


def test_more_rows_than_one_chunk_are_read(database_url: str) -> None:
    sql(database_url, TABLE)
    values = ", ".join(f"('{n}', '{n}@example.com', 'x', true, false, true)" for n in range(1700))
    sql(database_url, f'INSERT INTO "user" VALUES {values}')
    found = {account["email"] for account in fastapi_users(database_url)}
    assert found == {f"{n}@example.com" for n in range(1700)}


def test_source_is_opened_read_only(database_url: str) -> None:
    # The transaction itself refuses writes.
    from authapi.storage.imports.sources import _reader
    from authapi.storage.urls import parse_url

    engine = _reader(parse_url(database_url))
    with pytest.raises(Exception, match=r"read-?only"), engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM authapi_users")
    engine.dispose()


def test_missing_file_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is required in sqlite:///"):
        list(fastapi_users(f"sqlite:///{tmp_path}/none.db"))
    assert list(tmp_path.glob("*.db*")) == []


def test_path_may_contain_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "what ü #.db"
    with sqlite3.connect(path) as connection:
        connection.execute(TABLE)
        connection.execute(ROWS)
    connection.close()
    assert len(list(fastapi_users(f"sqlite:///{path}"))) == 2


@pytest.mark.parametrize("column", ["email", "hashed_password", "is_active", "is_verified"])
def test_other_table_is_reported(database_url: str, column: str) -> None:
    with pytest.raises(ConfigurationError, match="a table named user with the columns"):
        list(fastapi_users(database_url))
    sql(database_url, TABLE, f'ALTER TABLE "user" DROP COLUMN {column}')
    with pytest.raises(ConfigurationError, match="a table named user with the columns"):
        list(fastapi_users(database_url))


def test_table_without_ids_is_reported(database_url: str) -> None:
    sql(database_url, TABLE.replace("id CHAR(36) PRIMARY KEY", "pk CHAR(36) PRIMARY KEY"))
    assert list(fastapi_users(database_url)) == []
    with pytest.raises(ConfigurationError, match="with the columns id, email, hashed_password"):
        list(fastapi_users(database_url, with_ids=True))


def test_errors_do_not_contain_the_password_of_the_url(free_address: str) -> None:
    for url in (
        f"postgresql://alice:canary@{free_address}/x",
        f"postgresql://alice@{free_address}/x?password=canary",
        f"postgresql://alice:canary@{free_address}/x?sslmode=canary",
        "mysql://alice:canary@127.0.0.1/x",
        "canary",
        "postgresql://alice:canary@127.0.0.1:port/x",
    ):
        with pytest.raises(ConfigurationError) as caught:
            list(fastapi_users(url))
        assert "canary" not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__
