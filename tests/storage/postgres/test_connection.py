"""Connections of psycopg that are dropped when a statement is cancelled or has no response."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa

from authapi.errors import StorageUnavailable
from authapi.storage import Database
from authapi.storage.postgres.connection import aborting_connection_class, connect
from authapi.storage.postgres.session_parameters import SessionParameters
from tests.faults.harness.proxy import Proxy
from tests.servers.postgres import PostgresServer


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
