"""Queries on passkeys, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authapi.crypto.ids import new_id
from authapi.domain.factors.passkeys import Passkey
from authapi.domain.user import User
from authapi.storage import Database
from tests.second_factors import stored_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url
from tests.storage.rows import AT, a_user, store_user

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

MINUTE = timedelta(minutes=1)
HANDLE = b"h" * 32


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


def a_passkey(user: User, **changes: Any) -> Passkey:
    return replace(stored_passkey(user.id, SoftAuthenticator()), created_at=AT, **changes)


async def owners(database: Database) -> tuple[User, User]:
    alice = await store_user(database, a_user(), email="a@x.org")
    return alice, await store_user(database, a_user(), email="b@x.org")


async def test_a_passkey_is_found_by_its_credential(database: Database) -> None:
    alice, bob = await owners(database)
    long = a_passkey(alice, credential_id=bytes(1023), transports=(), sign_count=2**32 - 1)
    short = a_passkey(alice, credential_id=b"\x00", algorithm=-257)
    async with database.transaction() as store:
        await store.users.lock(alice.id)
        assert await store.passkeys.handle(alice.id, HANDLE) == HANDLE
        assert await store.passkeys.add(short)
        assert await store.passkeys.add(long)
        assert await store.passkeys.find_by_credential(long.credential_id) == (long, HANDLE)
        assert await store.passkeys.find_by_credential(short.credential_id) == (short, HANDLE)
        assert await store.passkeys.find_by_credential(bytes(1022)) is None
        assert await store.passkeys.list_for_user(alice.id) == sorted(
            (long, short), key=lambda it: it.id
        )
        assert await store.passkeys.list_for_user(bob.id) == []
        assert (await store.passkeys.count(alice.id), await store.passkeys.count(bob.id)) == (2, 0)


async def test_one_account_has_a_passkey(database: Database) -> None:
    alice, bob = await owners(database)
    passkey = a_passkey(alice)
    async with database.transaction() as store:
        assert await store.passkeys.add(passkey)
    for user in (alice, bob):
        copied = a_passkey(user, credential_id=passkey.credential_id)
        async with database.transaction() as store:
            assert not await store.passkeys.add(copied)
            assert await store.passkeys.count(bob.id) == 0, "the transaction goes on"


async def test_the_handle_is_made_once(database: Database) -> None:
    alice, bob = await owners(database)
    async with database.transaction() as store:
        await store.users.lock(alice.id)
        assert await store.passkeys.handle(alice.id, HANDLE) == HANDLE
        assert await store.passkeys.handle(alice.id, b"x" * 32) == HANDLE
    async with database.transaction() as store:
        await store.users.lock(bob.id)
        assert await store.passkeys.handle(bob.id, b"y" * 32) == b"y" * 32


@pytest.mark.parametrize(
    ("stored", "new", "is_used"),
    [(0, 0, True), (0, 1, True), (1, 2, True), (1, 1, False), (2, 1, False), (1, 0, False)],
)
async def test_a_counter_increases(
    database: Database, stored: int, new: int, is_used: bool
) -> None:
    alice, _ = await owners(database)
    passkey = a_passkey(alice, sign_count=stored, backed_up=False)
    at = AT + MINUTE
    async with database.transaction() as store:
        await store.passkeys.add(passkey)
        used = await store.passkeys.use(passkey.id, sign_count=new, backed_up=True, at=at)
        [found] = await store.passkeys.list_for_user(alice.id)
    assert used is is_used
    changed = replace(passkey, sign_count=new, backed_up=True, last_used_at=at)
    assert found == (changed if is_used else passkey)


async def test_one_of_many_uses_has_a_count(database: Database) -> None:
    alice, _ = await owners(database)
    passkey = a_passkey(alice, sign_count=1)
    async with database.transaction() as store:
        await store.passkeys.add(passkey)

    async def use() -> bool:
        async with database.transaction() as store:
            return await store.passkeys.use(passkey.id, sign_count=2, backed_up=True, at=AT)

    assert sorted(await asyncio.gather(*(use() for _ in range(5)))) == [False] * 4 + [True]


async def test_only_the_owner_renames_and_removes(database: Database) -> None:
    alice, bob = await owners(database)
    passkey = a_passkey(alice)
    async with database.transaction() as store:
        await store.passkeys.add(passkey)
        assert await store.passkeys.rename(bob.id, passkey.id, "x") is None
        assert not await store.passkeys.remove(bob.id, passkey.id)
        assert await store.passkeys.rename(alice.id, new_id(), "x") is None
        renamed = replace(passkey, name="Key")
        assert await store.passkeys.rename(alice.id, passkey.id, "Key") == renamed
        assert await store.passkeys.remove(alice.id, passkey.id)
        assert not await store.passkeys.remove(alice.id, passkey.id)
        assert not await store.passkeys.use(passkey.id, sign_count=0, backed_up=True, at=AT)


async def test_passkeys_of_a_user_are_removed(database: Database) -> None:
    alice, bob = await owners(database)
    async with database.transaction() as store:
        for number in range(3):
            created_at = AT + number * MINUTE
            await store.passkeys.add(replace(a_passkey(alice), created_at=created_at))
        await store.passkeys.add(a_passkey(bob))
        assert await store.passkeys.remove_since(alice.id, AT + MINUTE)
        assert not await store.passkeys.remove_since(alice.id, AT + MINUTE)
        assert await store.passkeys.count(alice.id) == 1
        assert await store.passkeys.remove_all(alice.id)
        assert not await store.passkeys.remove_all(alice.id)
        assert await store.passkeys.count(bob.id) == 1
