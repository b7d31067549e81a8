"""Queries on recovery codes, on both databases."""

import asyncio
from datetime import timedelta

import pytest

from authapi.crypto.secrets import hash_secret
from authapi.domain.factors.values import RecoveryCodesLeft
from authapi.storage import Database
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url
from tests.storage.rows import AT, a_user, store_user

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

ONE, TWO, THREE = (hash_secret(text) for text in ("one", "two", "three"))
MINUTE = timedelta(minutes=1)


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


async def test_a_code_is_used_once(database: Database) -> None:
    alice = await store_user(database, a_user(), email="a@x.org")
    bob = await store_user(database, a_user(), email="b@x.org")
    async with database.transaction() as store:
        assert await store.recovery_codes.left(alice.id) is None
        await store.recovery_codes.replace(alice.id, [ONE, TWO], at=AT)
        assert await store.recovery_codes.left(alice.id) == RecoveryCodesLeft(2, AT)
        assert await store.recovery_codes.has_unused(alice.id, ONE)
        assert not await store.recovery_codes.has_unused(bob.id, ONE)
        assert not await store.recovery_codes.use(bob.id, ONE, at=AT)
        assert not await store.recovery_codes.use(alice.id, THREE, at=AT)

    async def use() -> bool:
        async with database.transaction() as store:
            return await store.recovery_codes.use(alice.id, ONE, at=AT + MINUTE)

    assert sorted(await asyncio.gather(*(use() for _ in range(20)))) == [False] * 19 + [True]
    async with database.read() as store:
        assert not await store.recovery_codes.has_unused(alice.id, ONE)
        assert await store.recovery_codes.left(alice.id) == RecoveryCodesLeft(1, AT)


async def test_new_codes_replace_all(database: Database) -> None:
    user = await store_user(database, a_user())
    async with database.transaction() as store:
        await store.recovery_codes.replace(user.id, [ONE, TWO], at=AT)
        await store.recovery_codes.use(user.id, ONE, at=AT)
        await store.recovery_codes.replace(user.id, [THREE], at=AT + MINUTE)
        assert not await store.recovery_codes.use(user.id, TWO, at=AT)
        assert await store.recovery_codes.left(user.id) == RecoveryCodesLeft(1, AT + MINUTE)


@pytest.mark.parametrize(("since", "left"), [(0, None), (-1, None), (1, 2)])
async def test_codes_that_were_made_since_are_removed(
    database: Database, since: int, left: int | None
) -> None:
    user = await store_user(database, a_user())
    async with database.transaction() as store:
        await store.recovery_codes.replace(user.id, [ONE, TWO], at=AT)
        await store.recovery_codes.remove_since(user.id, AT + since * MINUTE)
        found = await store.recovery_codes.left(user.id)
    assert (None if found is None else found.left) == left


async def test_codes_end_alone_and_with_their_account(database: Database) -> None:
    user = await store_user(database, a_user())
    async with database.transaction() as store:
        await store.recovery_codes.replace(user.id, [ONE], at=AT)
        await store.recovery_codes.remove_all(user.id)
        assert await store.recovery_codes.left(user.id) is None
        await store.recovery_codes.replace(user.id, [ONE], at=AT)
        await store.users.delete(user.id)
        assert await store.recovery_codes.left(user.id) is None
