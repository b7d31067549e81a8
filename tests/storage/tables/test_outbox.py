"""Queries on the times of the last deliveries, on both databases."""

import asyncio
from datetime import timedelta

import pytest

from authapi.storage import Database
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url
from tests.storage.rows import AT

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


async def record(database: Database, receiver: str, minutes: int, kind: str = "mail") -> None:
    async with database.transaction() as store:
        await store.outbox.record_delivery(kind, receiver, at=AT + minutes * MINUTE)


async def test_each_receiver_has_its_latest_time(database: Database) -> None:
    await record(database, "", 3)
    await record(database, "", 5)
    await record(database, "", 4)
    await record(database, "a", 1, "webhook")
    await record(database, "b", 2, "webhook")
    async with database.read() as store:
        assert await store.outbox.last_deliveries("mail") == {"": AT + 5 * MINUTE}
        assert await store.outbox.last_deliveries("webhook") == {
            "a": AT + MINUTE,
            "b": AT + 2 * MINUTE,
        }
        assert await store.outbox.last_deliveries("request") == {}


async def test_concurrent_records_keep_the_latest(database: Database) -> None:
    await asyncio.gather(*(record(database, "a", number) for number in range(8)))
    async with database.read() as store:
        assert await store.outbox.last_deliveries("mail") == {"a": AT + 7 * MINUTE}
