"""Connections of psycopg that are dropped when a statement is cancelled or has no response."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa

from authapi.errors import StorageUnavailable
from authapi.storage import Database
from authapi.storage.postgres.connection import aborting_connection_class, connect
from authapi.storage.postgres.session_parameters import SessionParameters
from tests.faults.harness.proxy import Proxy
from tests.servers.postgres import PostgresCluster, PostgresServer
from tests.servers.standby import DURABLE, Standby


@pytest.mark.parametrize("waits_for", ["a statement", "a notification"])
async def test_a_waiting_connection_does_not_run_in_a_busy_loop(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    loop, woken = asyncio.get_running_loop(), 0
    add_reader = loop.add_reader

    def count(fd: int, callback: Callable[..., object], *arguments: object) -> None:
        nonlocal woken
        woken += 1
        add_reader(fd, callback, *arguments)

    connection = await aborting_connection_class().connect(postgres.admin_url, autocommit=True)
    async with connection:
        monkeypatch.setattr(loop, "add_reader", count)
        if waits_for == "a statement":
            await connection.execute("SELECT pg_sleep(1)")
        else:
            assert [item async for item in connection.notifies(timeout=1)] == []
        monkeypatch.undo()
    # About every tenth of a second, where a busy loop comes to thousands.
    assert 1 <= woken < 50


async def test_a_statement_of_a_silent_server_ends_and_closes_its_connection(
    postgres: PostgresServer,
) -> None:
    parameters = SessionParameters({})  # the server does not end the statement
    connection = await connect(parameters, postgres.admin_url, silence=0.2)
    async with asyncio.timeout(5):
        with pytest.raises(psycopg.OperationalError, match="does not respond"):
            await connection.execute("SELECT pg_sleep(30)")
    assert connection.closed


@pytest.mark.parametrize("is_shared", [False, True])
async def test_requests_to_a_silent_server_have_a_bound(
    postgres_url: str, *, is_shared: bool
) -> None:
    async with Proxy(lambda: [urlsplit(postgres_url).port or 0]) as proxy:
        url = postgres_url.replace(f":{urlsplit(postgres_url).port}/", f":{proxy.port}/")
        database = Database(url, timeout=0.5, pool_timeout=30, shares_sessions=is_shared)
        query = sa.select(sa.literal("a"))
        async with database.read() as store, database.transaction() as other:
            await store.connection.execute(query)
            await other.connection.execute(query)
        assert await database.rows(query, {}) == [["a"]]
        proxy.black_hole()
        ways = (database.rows(query, {}), _read(database), _write(database))
        started_at = time.monotonic()
        results = await asyncio.gather(*ways, return_exceptions=True)
        assert [type(result) for result in results] == [StorageUnavailable] * 3
        # A ping or the statement, and then a new connection: 1.5 and 2 seconds. Without a bound of
        # its own, each way would wait for the longest transaction, which is 31 seconds here.
        assert time.monotonic() - started_at < 15
        proxy.restore()
        await database.close()


async def _read(database: Database) -> None:
    async with database.read() as store:
        await store.connection.execute(sa.select(sa.literal("a")))


async def _write(database: Database) -> None:
    async with database.transaction() as store:
        await store.connection.execute(sa.select(sa.literal("a")))


@pytest.fixture
def split() -> Iterator[tuple[PostgresCluster, Standby]]:
    """A primary, and its standby, which tests promote while the primary goes on."""
    with ExitStack() as stack:
        primary = stack.enter_context(PostgresCluster(DURABLE))
        primary.create_database("split")
        standby = Standby(primary)
        stack.callback(standby.close)
        standby.follow()
        with psycopg.connect(primary.server.admin_url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")
        yield primary, standby


def _hosts(*servers: PostgresCluster) -> str:
    addresses = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://postgres:{servers[0].password}@{addresses}/split"


async def test_a_primary_that_was_replaced_is_left(
    split: tuple[PostgresCluster, Standby],
) -> None:
    primary, standby = split
    database = Database(_hosts(primary, standby), pool_size=4)
    assert await _ports(database) == {primary.port}
    standby.promote()
    assert await _ports(database) == {primary.port}, "not known yet"
    # A new connection finds the standby, because the old primary refuses it for a moment.
    with psycopg.connect(primary.server.admin_url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE split ALLOW_CONNECTIONS false")
        async with AsyncExitStack() as stack:
            reads = [await stack.enter_async_context(database.read()) for _ in range(3)]
            found = {await store.connection.scalar(_PORT) for store in reads}
        connection.execute("ALTER DATABASE split ALLOW_CONNECTIONS true")
    assert found == {primary.port, standby.port}
    # Connections that were open, and new ones, although the old primary is the first in the list.
    assert await _ports(database) == {standby.port}
    await database.close()
    assert await _ports(database) == {standby.port}
    await database.close()


_PORT = sa.text("SELECT current_setting('port')::int")


async def _ports(database: Database) -> set[int]:
    """The ports of the servers that each way of the database reaches."""
    async with database.read() as store, database.transaction() as other:
        found = {await it.connection.scalar(_PORT) for it in (store, other)}
    port = sa.select(sa.cast(sa.func.current_setting("port"), sa.Integer))
    return found | {row[0] for row in await database.rows(port, {})}
