"""The engine behind a pooler that is declared to share sessions."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import sqlalchemy as sa

from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.services import Services
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.inspection import record_statements
from authapi.storage.notifications import PostgresNotifications
from authapi.storage.postgres.session_parameters import command_parameters
from tests.servers.postgres import PostgresServer
from tests.storage.pooling import Pooler, pooling
from tests.storage.rows import sql


@pytest.fixture
async def pooler(postgres_url: str) -> AsyncIterator[Pooler]:
    """Two sessions for all clients, and no `options`."""
    async with pooling(postgres_url, 2, refuses_options=True) as found:
        yield found


def shared(pooler: Pooler, *, pool_size: int = 4) -> Database:
    return Database(pooler.url, pool_size=pool_size, timeout=7.5, shares_sessions=True)


async def test_clients_that_share_sessions_read_their_own_results(pooler: Pooler) -> None:
    async def reading(name: str) -> list[object]:
        database = shared(pooler)
        statement, found = sa.text(f"SELECT '{name} ' || :text"), list[object]()
        columns = sa.select(sa.literal(name), sa.bindparam("text", type_=sa.String))
        for number in range(60):
            async with database.read() as store:
                found.append(await store.connection.scalar(statement, {"text": f"{number}"}))
            async with database.transaction() as store:
                found.append(await store.connection.scalar(statement, {"text": f"{number}"}))
            [row] = await database.rows(cast("sa.Select[Any]", columns), {"text": f"{number}"})
            found.append(" ".join(row))
        await database.close()
        return found

    names = ("a", "b", "c", "d", "e")
    expected = [[f"{name} {n}" for n in range(60) for _ in range(3)] for name in names]
    assert await asyncio.gather(*map(reading, names)) == expected


async def test_each_transaction_has_the_parameters_and_leaves_none(pooler: Pooler) -> None:
    database = shared(pooler)
    names = ("statement_timeout", "lock_timeout", "row_security", "TimeZone", "DateStyle")
    for _ in range(6):
        async with database.transaction() as store:
            found = [
                await store.connection.scalar(sa.text(f"SELECT current_setting('{name}')"))
                for name in (*names, "transaction_isolation")
            ]
        assert found == ["7500ms", "7500ms", "off", "UTC", "ISO, MDY", "read committed"]
    await database.close()
    for session in pooler.idle[0]:
        assert await session.run("SELECT current_setting('statement_timeout')") == "0"
        assert await session.run("SELECT current_setting('row_security')") == "on"
        assert await session.run("SELECT count(*) FROM pg_prepared_statements") == "0"


async def test_a_change_is_a_transaction_with_the_parameters(
    pooler: Pooler, postgres_url: str
) -> None:
    async def statements_of(database: Database) -> list[str]:
        users = database.tables.users
        nothing = sa.update(users).where(sa.false()).values(name=None).returning(users.c.id)
        with record_statements(database) as found:
            assert await database.change(nothing, {}) == []
        await database.close()
        return found

    limits, change = await statements_of(shared(pooler))
    assert "'lock_timeout', '7500', true" in limits
    # Without a pooler, it costs one statement.
    assert await statements_of(Database(postgres_url)) == [change]


def test_options_of_the_url_are_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="AUTHAPI_DATABASE_SCHEMA"):
        Database(f"{postgres_url}?options=-csearch_path%3Da", shares_sessions=True)
    monkeypatch.setenv("PGOPTIONS", "-c search_path=a")
    with pytest.raises(ConfigurationError, match="PGOPTIONS"):
        Database(postgres_url, shares_sessions=True)


def test_parameters_of_a_session_are_not_set_in_a_transaction(postgres_url: str) -> None:
    found = command_parameters(sa.make_url(postgres_url)).local_statement()
    assert "'row_security', 'off', true" in found
    assert "false)" not in found
    assert "idle_session_timeout" not in found


async def test_direct_url_of_another_database_is_refused(
    postgres: PostgresServer, postgres_url: str
) -> None:
    chosen: dict[str, object] = {"database_url": postgres_url, "database_direct_url": postgres_url}
    services = Services.build(Settings(**chosen))  # type: ignore[arg-type]  # pydantic converts
    await services.open()
    await services.stop()
    chosen["database_url"] = postgres.admin_url
    services = Services.build(Settings(**chosen))  # type: ignore[arg-type]  # as above
    with pytest.raises(ConfigurationError, match="name different databases"):
        await services.open()
    await services.stop()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"database_pooler": "transaction"}, "needs AUTHAPI_DATABASE_DIRECT_URL"),
        ({"database_pooler": "statement"}, "transaction"),
        ({"database_url": "sqlite:///x", "database_pooler": "transaction"}, "needs PostgreSQL"),
        ({"database_url": "sqlite:///x", "database_direct_url": "postgresql://h/d"}, "needs Post"),
        ({"database_direct_url": "sqlite:///x"}, "must name a PostgreSQL database"),
        ({"database_direct_url": " SQLite:///x"}, "must name a PostgreSQL database"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**{"database_url": "postgresql://h/d", **changes})  # type: ignore[arg-type]


async def test_dates_that_the_driver_cannot_read_are_refused(
    postgres: PostgresServer, worker: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"dates_{worker}"
    url = postgres.create_database(name)
    sql(url, f"ALTER DATABASE {name} SET datestyle = 'German'")
    try:
        database = Database(url, shares_sessions=True)
        with pytest.raises(StorageUnavailable, match="datestyle German, DMY"):
            await database.ping()
        assert any("it must be ISO" in message for message in caplog.messages)
        await database.close()
    finally:
        postgres.drop_database(name)


@pytest.mark.parametrize("shares_sessions", [False, True])
async def test_the_pool_tells_which_server_it_reaches(
    postgres_url: str, shares_sessions: bool
) -> None:
    database = Database(postgres_url, shares_sessions=shares_sessions)
    notifications = database.notifications
    assert isinstance(notifications, PostgresNotifications)
    async with notifications.listen(operation_timeout=5) as listener:
        assert not notifications.shares_server(listener)
        async with database.transaction():
            pass
        assert notifications.shares_server(listener)
    await database.close()
