"""Connections and transactions: settings, commits, rollbacks and timeouts."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from authapi.errors import ConfigurationError, EmailTaken, StorageUnavailable
from authapi.storage import Database
from authapi.storage.urls import parse_url
from tests.storage.rows import HASH, a_user, sql, store_user

USERS = "SELECT email FROM authapi_users ORDER BY email"


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


async def scalar(database: Database, statement: str) -> Any:
    async with database.engine.connect() as connection:
        return (await connection.exec_driver_sql(statement)).scalar_one()


@contextmanager
def another_writer(url: str) -> Iterator[None]:
    """Another process that is writing to this SQLite file."""
    with closing(sqlite3.connect(sa.make_url(url).database or "", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL
        ("foreign_keys", 1),
        ("busy_timeout", 7500),
    ],
)
async def test_sqlite_pragmas_are_set_on_every_connection(
    sqlite_url: str, pragma: str, value: object
) -> None:
    database = Database(sqlite_url, pool_size=3, timeout=7.5)
    async with (
        database.engine.connect() as first,
        database.engine.connect() as second,
        database.engine.connect() as third,
    ):
        for connection in (first, second, third):
            found = await connection.exec_driver_sql(f"PRAGMA {pragma}")
            assert found.scalar_one() == value
    await database.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("TimeZone", "UTC"), ("statement_timeout", "7500ms"), ("lock_timeout", "7500ms")],
)
async def test_postgresql_parameters_are_set(postgres_url: str, name: str, value: str) -> None:
    database = Database(postgres_url, timeout=7.5)
    assert await scalar(database, f"SELECT current_setting('{name}')") == value
    await database.close()


async def test_slow_statement_times_out(postgres_url: str) -> None:
    database = Database(postgres_url, timeout=0.1)
    with pytest.raises(StorageUnavailable):
        async with database.read() as store:
            await store.users._connection.exec_driver_sql("SELECT pg_sleep(60)")
    await database.ping()
    await database.close()


async def test_sqlite_enforces_foreign_keys(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with pytest.raises(sa.exc.IntegrityError, match="FOREIGN KEY"):
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql(
                "INSERT INTO authapi_sessions VALUES ('s', 'unknown', 'jwt', NULL, NULL, '[]', '',"
                " '', '', '', '', '[]', NULL, NULL, '{}', 0, NULL, NULL, NULL, NULL)"
            )
    await database.close()


async def test_transaction_is_committed_at_the_end_of_its_block(
    database: Database, database_url: str
) -> None:
    async with database.transaction() as store:
        await store.users.add(a_user(), email="alice@example.com", password_hash=HASH)
        assert sql(database_url, USERS) == []
    # Visible to another connection.
    assert sql(database_url, USERS) == [("alice@example.com",)]


async def test_failed_transaction_is_rolled_back(database: Database, database_url: str) -> None:
    async def write_and_fail() -> None:
        async with database.transaction() as store:
            await store.users.add(a_user(), email="alice@example.com", password_hash=HASH)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    assert sql(database_url, USERS) == []
    await store_user(database, a_user())
    assert sql(database_url, USERS) == [("alice@example.com",)]


async def test_cancelled_transaction_is_rolled_back(
    database_url: str,
) -> None:
    database = Database(database_url, pool_size=1)
    inside = asyncio.Event()

    async def write() -> None:
        async with database.transaction() as store:
            await store.users.add(a_user(), email="alice@example.com", password_hash=HASH)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sql(database_url, USERS) == []
    # The only connection, and on SQLite the write lock, are free again.
    with anyio.fail_after(5):
        await store_user(database, a_user())
    await database.close()


async def test_connection_is_released_after_a_cancellation_at_any_await(database_url: str) -> None:
    database = Database(database_url, pool_size=1, pool_timeout=5)
    await database.ping()

    async def write(number: int) -> None:
        await store_user(database, a_user(), email=f"{number}@example.com")

    for turns in range(40):
        task = asyncio.create_task(write(turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    with anyio.fail_after(10):
        await store_user(database, a_user())
        await database.ping()
    assert ("alice@example.com",) in sql(database_url, USERS)
    await database.close()


async def test_second_insert_of_an_address_raises_email_taken(
    database: Database, database_url: str
) -> None:
    await store_user(database, a_user(name="first"))
    with pytest.raises(EmailTaken) as caught:
        await store_user(database, a_user(name="second"))
    assert "alice" not in str(caught.value)
    assert sql(database_url, "SELECT name FROM authapi_users") == [("first",)]


async def test_concurrent_writers_are_serialized(database: Database, database_url: str) -> None:
    numbers = range(30)
    await asyncio.gather(
        *(store_user(database, a_user(), email=f"{n:02}@example.com") for n in numbers)
    )
    assert sql(database_url, USERS) == [(f"{n:02}@example.com",) for n in numbers]


async def test_writers_of_two_processes_are_serialized(database_url: str) -> None:
    # Each has its own write lock, so only the database serializes them.
    databases = [Database(database_url, timeout=30) for _ in range(3)]
    await asyncio.gather(
        *(store_user(databases[n % 3], a_user(), email=f"{n:02}@example.com") for n in range(30))
    )
    assert len(sql(database_url, USERS)) == 30
    for database in databases:
        await database.close()


async def test_exhausted_pool_raises_storage_unavailable_in_time(database_url: str) -> None:
    database = Database(database_url, pool_size=1, pool_timeout=0.05)
    with anyio.fail_after(5):
        async with database.transaction():
            for attempt in (database.ping, database.read().__aenter__):
                with pytest.raises(StorageUnavailable):
                    await attempt()
        await database.ping()
    await database.close()


async def test_locked_sqlite_file_is_unavailable_for_writers_only(sqlite_url: str) -> None:
    database = Database(sqlite_url, timeout=0.05)
    await database.ping()
    with another_writer(sqlite_url):
        with pytest.raises(StorageUnavailable):
            await store_user(database, a_user())
        async with database.read() as store:
            assert await store.users.find_by_email("alice@example.com") is None
    await store_user(database, a_user())
    await database.close()


async def test_new_file_can_be_opened_while_another_process_writes(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with another_writer(sqlite_url):
        # SQLite refuses at once to change the journal mode now.
        opening = asyncio.create_task(database.ping())
        done, _ = await asyncio.wait({opening}, timeout=0.1)
        assert not done
    await opening
    assert await scalar(database, "PRAGMA journal_mode") == "wal"
    await database.close()


async def test_locked_postgresql_row_raises_storage_unavailable(postgres_url: str) -> None:
    database = Database(postgres_url, timeout=0.1)
    user = await store_user(database, a_user())
    async with database.transaction() as holder:
        await holder.users.lock(user.id)
        with pytest.raises(StorageUnavailable):
            async with database.transaction() as store:
                await store.users.lock(user.id)
    async with database.transaction() as store:
        assert await store.users.lock(user.id) is not None
    await database.close()


async def test_unreachable_server_raises_storage_unavailable(free_address: str) -> None:
    database = Database(f"postgresql://user:canary@{free_address}/authapi")
    with pytest.raises(StorageUnavailable) as caught:
        await database.ping()
    assert "canary" not in str(caught.value)
    with pytest.raises(StorageUnavailable):
        await store_user(database, a_user())
    await database.close()


async def test_unreadable_file_raises_storage_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'missing' / 'x.db'}")
    with pytest.raises(StorageUnavailable):
        await database.ping()
    await database.close()


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+psycopg"),
        ("sqlite:///x.db", "sqlite+aiosqlite"),
        ("sqlite:////x.db", "sqlite+aiosqlite"),
        ("sqlite+pysqlite:///x.db", "sqlite+aiosqlite"),
    ],
)
def test_url_selects_the_driver(text: str, driver: str) -> None:
    assert parse_url(text).drivername == driver


@pytest.mark.parametrize(
    "text",
    [
        *("", "canary", "://canary", "mysql://u:canary@h/d", "http://canary", "sqlite", "\0canary"),
        *("postgresql://u:canary@h:port/d", "oracle+canary://u:canary@h/d", "sqlite://"),
        *("sqlite:///:memory:", "sqlite:///file:canary?mode=memory&uri=true"),
    ],
)
def test_invalid_url_is_rejected_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(text)
    assert "database URL" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_description_contains_no_password() -> None:
    database = Database("postgresql://user:canary@host:5433/name")
    assert database.description == "postgresql://user:***@host:5433/name"
    assert "canary" not in repr(database.engine)


async def test_locks_of_a_cancelled_request_are_released_soon(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL detects lost clients, even while one of their statements waits.

    The driver does not log the cancellation: clients can cause as many as they like.
    """
    database, other = Database(postgres_url, timeout=60), Database(postgres_url)
    first = await store_user(other, a_user(email="one@example.com"))
    second = await store_user(other, a_user(email="two@example.com"))
    async with other.transaction() as held:
        await held.users.lock(first.id)

        async def wait() -> None:
            async with database.transaction() as store:
                await store.users.lock(second.id)
                await store.users.lock(first.id)

        waiting = asyncio.create_task(wait())
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        for _ in range(2000):
            if sql(postgres_url, f"{waits} AND datname = current_database()") == [(1,)]:
                break
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        # Without the connection check, it would wait a minute for the lock of `first`.
        async with asyncio.timeout(20), held.connection.begin_nested():
            await held.users.lock(second.id)
    assert database.connections_in_use == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    await database.close()
    await other.close()


async def test_ping_fails_on_a_read_only_database(database_url: str) -> None:
    database = Database(database_url, timeout=0.05)
    await database.ping()
    if database_url.startswith("sqlite"):
        path = sa.make_url(database_url).database or ""
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable):
                await database.ping()
    else:
        name = sa.make_url(database_url).database
        sql(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await database.close()  # the setting applies to new connections
        with pytest.raises(StorageUnavailable):
            await database.ping()
        # The setting of the database forbids changing it, so the session overrides it.
        sql(
            database_url,
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
        )
        await database.close()
    await database.ping()
    assert database.connections_in_use == 0
    await database.close()


async def test_ping_times_out(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authapi.storage.database._PING_TIMEOUT", 0.1)
    database, path = Database(sqlite_url, timeout=30), sa.make_url(sqlite_url).database or ""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable):
            await asyncio.wait_for(database.ping(), 15)  # SQLite itself would wait half a minute
        other.execute("ROLLBACK")
    await database.close()
