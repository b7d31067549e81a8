"""Queries on used challenges, on both databases."""

import asyncio
from datetime import timedelta

import pytest

from authapi.domain.factors.passkeys import UsedChallenge
from authapi.storage import Database
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url
from tests.storage.rows import AT

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


def used(number: int = 0) -> UsedChallenge:
    return UsedChallenge(bytes([number]) * 32, AT + number * MINUTE)


async def test_a_challenge_is_used_once(database: Database) -> None:
    async def use() -> bool:
        async with database.transaction() as store:
            return await store.used_challenges.add(used())

    assert sorted(await asyncio.gather(*(use() for _ in range(5)))) == [False] * 4 + [True]
    assert not await use()
    async with database.transaction() as store:
        assert await store.used_challenges.add(used(1)), "another one"
        assert not await store.used_challenges.add(used(1)), "the transaction goes on"


async def test_a_use_that_is_rolled_back_is_none(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as store:
            assert await store.used_challenges.add(used())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.transaction() as store:
        assert await store.used_challenges.add(used())


async def test_expired_ones_are_deleted_in_batches(database: Database) -> None:
    async with database.transaction() as store:
        for number in range(5):
            await store.used_challenges.add(used(number))
        assert await store.used_challenges.prune(now=AT + 2 * MINUTE, limit=2) == 2
        assert await store.used_challenges.prune(now=AT + 2 * MINUTE, limit=2) == 1
        assert await store.used_challenges.prune(now=AT + 2 * MINUTE, limit=2) == 0
        assert await store.used_challenges.add(used(2))
        assert not await store.used_challenges.add(used(3))
