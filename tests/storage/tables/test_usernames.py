"""Claims of user names, on both databases: one account at a time has a name."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from authapi.crypto.ids import new_id
from authapi.errors import UsernameTaken
from authapi.storage import Database

NOW = datetime(2031, 5, 6, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=90)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    found = Database(database_url)
    yield found
    await found.close()


async def claim(
    database: Database,
    *names: str,
    user_id: UUID,
    at: datetime = NOW,
    until: datetime | None = None,
) -> bool:
    try:
        async with database.transaction() as store:
            await store.usernames.claim(dict.fromkeys(names, user_id), now=at, until=until)
    except UsernameTaken:
        return False
    return True


async def test_a_claimed_name_is_taken_for_others(database: Database) -> None:
    one, two = new_id(), new_id()
    assert await claim(database, "alice", user_id=one)
    assert await claim(database, "alice", user_id=one)
    assert not await claim(database, "alice", user_id=two)
    assert not await claim(database, "bob", "alice", user_id=two)
    assert await claim(database, "bob", user_id=one), "a refused claim of several claims none"
    async with database.read() as store:
        taken = await store.usernames.find_taken(["alice", "bob", "carol"], now=NOW)
    assert taken == {"alice": one, "bob": one}


async def test_a_released_name_is_free_for_others_later(database: Database) -> None:
    one, two = new_id(), new_id()
    assert await claim(database, "alice", user_id=one)
    async with database.transaction() as store:
        await store.usernames.release("alice", user_id=one, until=LATER)
    assert not await claim(database, "alice", user_id=two, at=LATER - timedelta(seconds=1))
    assert await claim(database, "alice", user_id=one)
    async with database.transaction() as store:
        await store.usernames.release("alice", user_id=one, until=LATER)
    assert await claim(database, "alice", user_id=two, at=LATER)
    assert not await claim(database, "alice", user_id=one, at=LATER + timedelta(days=1000))


async def test_a_reservation_ends_by_itself(database: Database) -> None:
    one, two = new_id(), new_id()
    assert await claim(database, "alice", user_id=one, until=LATER)
    assert not await claim(database, "alice", user_id=two)
    assert await claim(database, "alice", user_id=two, at=LATER)


async def test_only_free_names_are_pruned(database: Database) -> None:
    one = new_id()
    assert await claim(database, "held", user_id=one)
    assert await claim(database, "reserved", user_id=one, until=LATER)
    for name in ("expired1", "expired2", "expired3"):
        assert await claim(database, name, user_id=one, until=NOW)
    async with database.transaction() as store:
        assert await store.usernames.prune(now=NOW, limit=2) == 2
        assert await store.usernames.prune(now=NOW, limit=2) == 1
        assert await store.usernames.prune(now=NOW, limit=2) == 0
    assert not await claim(database, "held", user_id=new_id())
    assert not await claim(database, "reserved", user_id=new_id())


async def test_one_of_concurrent_claims_succeeds(database: Database) -> None:
    for _ in range(5):
        name = new_id().hex
        results = await asyncio.gather(*(claim(database, name, user_id=new_id()) for _ in range(4)))
        assert sorted(results) == [False, False, False, True]


async def test_a_name_is_not_taken_in_the_moment_of_its_release(database: Database) -> None:
    one, two = new_id(), new_id()
    for _ in range(5):
        name = new_id().hex
        assert await claim(database, name, user_id=one)

        async def release(name: str = name) -> None:
            async with database.transaction() as store:
                await store.usernames.release(name, user_id=one, until=LATER)
                await asyncio.sleep(0)

        claims = (claim(database, name, user_id=two) for _ in range(3))
        _, *results = await asyncio.gather(release(), *claims)
        assert not any(results)


async def test_crossed_claims_of_several_names_do_not_deadlock(database: Database) -> None:
    for _ in range(5):
        first, second = new_id().hex, new_id().hex
        results = await asyncio.gather(
            claim(database, first, second, user_id=new_id()),
            claim(database, second, first, user_id=new_id()),
        )
        assert sorted(results) == [False, True]
