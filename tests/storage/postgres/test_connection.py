"""Connections of psycopg that are dropped when a statement is cancelled."""

import asyncio
from collections.abc import Callable

import pytest

from authapi.storage.postgres.connection import aborting_connection_class
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
