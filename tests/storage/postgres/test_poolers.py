"""Poolers in front of PostgreSQL: rejection at the start, and connections through a pooler."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.services.schema import prepare
from authapi.storage import Database, migrations
from authapi.storage.imports.sources import fastapi_users
from authapi.storage.notifications import PostgresNotifications
from authapi.testing import client
from tests.storage.pooling import pooling
from tests.storage.rows import sql

_ROUNDS = 12
"""More than the executions after which psycopg prepares a statement."""


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


def _import(url: str) -> None:
    list(fastapi_users(url))


def _prepare(url: str) -> None:
    prepare(Settings(database_url=url))  # type: ignore[arg-type]  # pydantic reads


OPERATIONS: dict[str, Callable[[str], object]] = {
    "upgrade": migrations.upgrade,
    "downgrade": lambda url: migrations.downgrade(url, "-1"),
    "current": migrations.current,
    "check": migrations.check,
    "require_current": migrations.require_current,
    "is_pooled": migrations.is_pooled,
    "prepare": _prepare,
    "import": _import,
}


async def refused(operation: Callable[[str], object], url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await asyncio.to_thread(operation, url)
    text = str(caught.value)
    assert "\n" not in text
    assert sa.make_url(url).password not in text.split()
    return text


def advisory_locks(url: str) -> object:
    """Returns the number of advisory locks in this database, not in those of other tests."""
    held = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )
    return sql(url, held)[0][0]


async def prepared_on(database: Database) -> list[str]:
    """Returns the names of the prepared statements of one session of the pool."""
    async with database.read() as store:
        found = await store.connection.exec_driver_sql("SELECT name FROM pg_prepared_statements")
        return [name for (name,) in found]


async def read(database: Database, text: str, statement: str = "SELECT 'a ' || :text") -> object:
    async with database.read() as store:
        return await store.connection.scalar(sa.text(statement), {"text": text})


# At start.


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
async def test_pooler_that_shares_sessions_is_rejected_before_any_change(
    postgres_url: str, operation: Callable[[str], object]
) -> None:
    async with pooling(postgres_url) as pooler:
        message = await refused(operation, pooler.url)
        assert "connect to PostgreSQL directly" in message
        assert "pool_mode = session" in message
        assert advisory_locks(postgres_url) == 0
    assert migrations.current(postgres_url) == migrations.head()


@pytest.mark.parametrize("key", ["own", "server"])
@pytest.mark.parametrize("in_turn", [False, True], ids=["latest first", "in turn"])
@pytest.mark.parametrize("sessions", [1, 2, 3, 5])
async def test_shared_sessions_are_detected_in_any_order_of_assignment(
    postgres_url: str, key: str, in_turn: bool, sessions: int
) -> None:
    async with pooling(postgres_url, sessions, key=key, in_turn=in_turn) as pooler:
        await refused(migrations.current, pooler.url)


@pytest.mark.parametrize("groups", [2, 3])
async def test_several_poolers_behind_one_address_are_rejected(
    postgres_url: str, groups: int
) -> None:
    async with pooling(postgres_url, 2, groups=groups) as pooler:
        await refused(migrations.current, pooler.url)


async def test_pooler_in_session_mode_is_accepted(
    postgres_url: str,
) -> None:
    async with pooling(postgres_url, mode="session") as pooler:
        for name in ("current", "require_current", "check", "upgrade", "prepare"):
            await asyncio.to_thread(OPERATIONS[name], pooler.url)
        assert await asyncio.to_thread(migrations.is_pooled, pooler.url)
    assert not migrations.is_pooled(postgres_url)


async def test_application_does_not_start_behind_a_pooler(postgres_url: str) -> None:
    async with pooling(postgres_url) as pooler:
        app = create_app(Settings(database_url=pooler.url))  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="shares sessions"):
            async with client(app):
                pass
        assert advisory_locks(postgres_url) == 0


async def test_pooler_that_refuses_options_is_used_without_them(postgres_url: str) -> None:
    async with pooling(postgres_url, mode="session", refuses_options=True) as pooler:
        for name in ("current", "upgrade", "prepare"):
            await asyncio.to_thread(OPERATIONS[name], pooler.url)
        database = Database(pooler.url, timeout=7.5)
        for name, value in (("TimeZone", "UTC"), ("statement_timeout", "7500ms")):
            assert await read(database, name, "SELECT current_setting(:text)") == value
        await database.close()
    # Another reason to refuse it is found all the same.
    async with pooling(postgres_url, refuses_options=True) as pooler:
        message = await refused(migrations.current, pooler.url)
        assert "AUTHAPI_DATABASE_POOLER=transaction" in message


async def test_the_host_that_accepts_the_connection_is_checked(
    postgres_url: str, free_address: str
) -> None:
    server = sa.make_url(postgres_url)
    assert server.host is not None
    async with pooling(postgres_url) as pooler:
        shared = f"127.0.0.1:{sa.make_url(pooler.url).port}"
        for hosts, is_refused in (
            ([free_address, shared], True),
            ([shared, f"{server.host}:{server.port}"], True),
            ([free_address, f"{server.host}:{server.port}"], False),
        ):
            url = server.set(host=None, port=None).update_query_dict({"host": hosts})
            text = url.render_as_string(hide_password=False)
            if is_refused:
                await refused(migrations.current, text)
            else:
                assert migrations.current(text) == migrations.head()


@pytest.fixture
def role(postgres_url: str, worker: str) -> Iterator[str]:
    """A role with a connection limit of one."""
    name = f"one_{worker}"
    sql(postgres_url, f"CREATE ROLE {name} LOGIN PASSWORD 'canary' CONNECTION LIMIT 1")
    yield name
    sql(postgres_url, f"DROP ROLE {name}")


def test_server_without_a_second_connection_raises_storage_unavailable(
    postgres_url: str, role: str
) -> None:
    url = sa.make_url(postgres_url).set(username=role, password="canary")
    with pytest.raises(StorageUnavailable, match="too many connections") as caught:
        migrations.current(url.render_as_string(hide_password=False))
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_check_leaves_the_connection_unchanged(postgres_url: str) -> None:
    mine = "FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
    async with pooling(postgres_url) as pooler:
        await refused(migrations.upgrade, pooler.url)
        assert len(pooler.idle[0]) == 2
        for session in pooler.idle[0]:
            assert await session.run("SELECT count(*) FROM pg_prepared_statements") == "0"
            assert await session.run("SELECT count(*) FROM pg_listening_channels()") == "0"
            assert await session.run(f"SELECT count(*) {mine}") == "0"
            assert await session.run("SELECT now() = statement_timestamp()") == "t"


# On each connection.


async def test_statements_are_prepared_without_a_pooler(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=1)
    for number in range(_ROUNDS):
        assert await read(database, f"{number}") == f"a {number}"
    assert len(await prepared_on(database)) == 1
    await database.close()


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_no_statement_is_prepared_behind_a_pooler(postgres_url: str, mode: str) -> None:
    async with pooling(postgres_url, 1, mode=mode) as pooler:
        database = Database(pooler.url, pool_size=1)
        for number in range(_ROUNDS):
            assert await read(database, f"{number}") == f"a {number}"
        assert await prepared_on(database) == []
        await database.close()


async def test_heartbeats_are_not_prepared(postgres_url: str) -> None:
    changes = Database(postgres_url).notifications
    assert isinstance(changes, PostgresNotifications)
    async with changes.listen(operation_timeout=5) as listener:
        for _ in range(_ROUNDS):
            await listener.beat()
        found = await listener._connection.execute("SELECT count(*) FROM pg_prepared_statements")
        assert await found.fetchone() == (0,)


async def test_clients_that_share_sessions_read_their_own_results(postgres_url: str) -> None:
    # As after a failover to a pooler: there was no check at the start.
    async with pooling(postgres_url, 2) as pooler:

        async def reading(name: str) -> list[object]:
            database = Database(pooler.url, pool_size=2)
            statement = f"SELECT '{name} ' || :text"
            found = [await read(database, f"{n}", statement) for n in range(40)]
            await database.close()
            return found

        names = ("a", "b", "c")
        found = await asyncio.gather(*(reading(name) for name in names))
        assert found == [[f"{name} {n}" for n in range(40)] for name in names]


async def test_connections_use_different_statement_names(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=2)
    names: list[str] = []
    async with database.read() as first, database.read() as second:
        for store in (first, second):
            for number in range(_ROUNDS):
                await store.connection.scalar(sa.text("SELECT :n"), {"n": f"{number}"})
            found = await store.connection.exec_driver_sql(
                "SELECT name FROM pg_prepared_statements"
            )
            names += [name for (name,) in found]
    assert len(names) == len(set(names)) == 2
    await database.close()


async def test_connection_with_a_changed_session_runs_no_statement_of_another_client(
    postgres_url: str,
) -> None:
    # The pooler sends the real process id at the start, and assigns another session later.
    async with pooling(postgres_url, 1, key="server") as pooler:
        database = Database(pooler.url, pool_size=1)
        for number in range(_ROUNDS):
            assert await read(database, f"{number}") == f"a {number}"
        assert len(await prepared_on(database)) == 1
        other = await pooler.open()
        for number in range(5):
            await other.run(f"PREPARE _pg3_{number} (text) AS SELECT 'of another ' || $1")
        pooler.idle[0][:] = [other]
        with pytest.raises(StorageUnavailable):
            await read(database, "1")
        # The pool has replaced the connection, so the next query succeeds.
        for number in range(_ROUNDS):
            assert await read(database, f"{number}") == f"a {number}"
        await database.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("TimeZone", "UTC"), ("statement_timeout", "7500ms"), ("lock_timeout", "7500ms")],
)
async def test_parameters_are_set_if_a_pooler_ignores_options(
    postgres_url: str, name: str, value: str
) -> None:
    async with pooling(postgres_url, mode="session") as pooler:
        database = Database(pooler.url, timeout=7.5)
        assert await read(database, name, "SELECT current_setting(:text)") == value
        await database.close()


async def test_new_connection_is_not_in_a_transaction(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=1)
    async with database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        assert not driver.autocommit
        assert driver.info.transaction_status.name == "IDLE"
    await database.close()


# Imports from the database of another application.


async def test_import_through_a_pooler_cannot_write(postgres_url: str) -> None:
    from authapi.storage.imports.sources import _reader
    from authapi.storage.urls import parse_url

    async with pooling(postgres_url, mode="session") as pooler:

        def write() -> None:
            engine = _reader(parse_url(pooler.url))
            try:
                with (
                    pytest.raises(sa.exc.DBAPIError, match="read-only"),
                    engine.connect() as connection,
                ):
                    connection.exec_driver_sql("DELETE FROM authapi_users")
            finally:
                engine.dispose()

        await asyncio.to_thread(write)
