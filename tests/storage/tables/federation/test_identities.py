"""Queries on the identities at providers, on both databases."""

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from authapi.crypto.ids import id_at, new_id
from authapi.domain.federation.person import LinkedIdentity
from authapi.domain.user import User
from authapi.storage import Database
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url
from tests.storage.rows import AT, a_session, a_user, store_user

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

ISSUER = "https://id.example"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


_numbers = itertools.count()


def an_identity(user: User, **changes: Any) -> LinkedIdentity:
    """An identity with a higher id than those before: lists are in the order of the ids."""
    identity = LinkedIdentity(
        id=id_at(AT + next(_numbers) * MINUTE),
        user_id=user.id,
        provider="acme",
        issuer=ISSUER,
        subject="1",
        email="ada@example.com",
        email_verified=True,
        name="Ada",
        created_at=AT,
        last_login_at=None,
    )
    return replace(identity, **changes)


async def owners(database: Database) -> tuple[User, User]:
    alice = await store_user(database, a_user(), email="a@x.org")
    return alice, await store_user(database, a_user(), email="b@x.org")


async def version(database: Database, user: User) -> int:
    async with database.read() as store:
        row = await store.users.find_credentials(user.id)
    assert row is not None
    return row.version


async def add(database: Database, *identities: LinkedIdentity) -> list[bool]:
    async with database.transaction() as store:
        return [await store.identities.add(it, auth_context={"mfa": True}) for it in identities]


async def test_an_identity_is_found_by_issuer_and_subject(database: Database) -> None:
    alice, bob = await owners(database)
    long = an_identity(alice, issuer="i" * 255, subject="s" * 255, name="é" * 200)
    bare = an_identity(alice, subject="2", email=None, name=None, email_verified=False)
    assert await add(database, long, bare) == [True, True]
    async with database.read() as store:
        assert await store.identities.find("i" * 255, "s" * 255) == long
        assert await store.identities.find(ISSUER, "2") == bare
        assert await store.identities.find("i" * 255, "2") is None
        assert await store.identities.find_by_id(long.id) == long
        assert await store.identities.find_by_id(new_id()) is None
        assert await store.identities.list_for_user(alice.id) == [long, bare]
        assert await store.identities.list_for_user(bob.id) == []


@pytest.mark.parametrize(
    ("one", "two"),
    [("a", "A"), ("1", "01"), ("1", "1 "), ("e\u0301", "\u00e9"), ("ss", "ß"), ("1", "1.0")],
)
async def test_subjects_that_look_alike_are_different_people(
    database: Database, one: str, two: str
) -> None:
    alice, bob = await owners(database)
    first, second = an_identity(alice, subject=one), an_identity(bob, subject=two)
    assert await add(database, first, second) == [True, True]
    async with database.read() as store:
        assert await store.identities.find(ISSUER, one) == first
        assert await store.identities.find(ISSUER, two) == second


async def test_one_account_has_an_identity(database: Database) -> None:
    alice, bob = await owners(database)
    linked = an_identity(alice)
    assert await add(database, linked) == [True]
    for other in (bob, alice):
        # By another provider with this issuer too.
        again = an_identity(other, provider="other", email=None)
        assert await add(database, again) == [False]
    async with database.read() as store:
        assert await store.identities.find(ISSUER, "1") == linked
    assert (await version(database, alice), await version(database, bob)) == (1, 0)


async def test_of_concurrent_links_one_is_made(database: Database) -> None:
    alice, bob = await owners(database)
    attempts = [add(database, an_identity((alice, bob)[number % 2])) for number in range(10)]
    found = [added for [added] in await asyncio.gather(*attempts)]
    assert sorted(found) == [False] * 9 + [True]
    assert await version(database, alice) + await version(database, bob) == 1


async def test_a_link_that_is_rolled_back_is_none(database: Database) -> None:
    alice, _ = await owners(database)

    async def fail() -> None:
        async with database.transaction() as store:
            assert await store.identities.add(an_identity(alice), auth_context=None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await version(database, alice) == 0
    assert await add(database, an_identity(alice)) == [True]


async def test_a_login_updates_what_the_provider_says(database: Database) -> None:
    alice, _ = await owners(database)
    linked, other = an_identity(alice), an_identity(alice, subject="2")
    await add(database, linked, other)

    async def record(identity_id: UUID) -> bool:
        async with database.transaction() as store:
            return await store.identities.record_login(
                identity_id,
                at=AT + MINUTE,
                email=None,
                email_verified=False,
                name="Countess",
                auth_context=None,
            )

    assert await record(linked.id)
    assert not await record(new_id())
    async with database.read() as store:
        assert await store.identities.list_for_user(alice.id) == [
            replace(
                linked,
                email=None,
                email_verified=False,
                name="Countess",
                last_login_at=AT + MINUTE,
            ),
            other,
        ]
    # A login is no change of the ways in.
    assert await version(database, alice) == 2


async def test_only_the_owner_loses_an_identity(database: Database) -> None:
    alice, bob = await owners(database)
    linked = an_identity(alice)
    await add(database, linked, an_identity(bob, subject="2"))
    async with database.transaction() as store:
        assert not await store.identities.remove(bob.id, linked.id)
        assert await store.identities.remove(alice.id, linked.id)
        assert not await store.identities.remove(alice.id, linked.id)
        assert await store.identities.list_for_user(alice.id) == []
        assert len(await store.identities.list_for_user(bob.id)) == 1
    assert (await version(database, alice), await version(database, bob)) == (2, 1)


async def test_identities_are_removed_from_a_time_on(database: Database) -> None:
    alice, bob = await owners(database)
    people = [
        an_identity(alice, subject=str(number), created_at=AT + number * MINUTE)
        for number in range(4)
    ]
    await add(database, *people, an_identity(bob, subject="9", created_at=AT + 9 * MINUTE))
    async with database.transaction() as store:
        assert await store.identities.remove_since(alice.id, AT + 2 * MINUTE)
        assert not await store.identities.remove_since(alice.id, AT + 2 * MINUTE)
        assert await store.identities.list_for_user(alice.id) == people[:2]
        assert await store.identities.remove_all(alice.id)
        assert not await store.identities.remove_all(alice.id)
        assert len(await store.identities.list_for_user(bob.id)) == 1
    assert await version(database, alice) == 4 + 2


async def test_the_sessions_that_began_with_an_identity_end(database: Database) -> None:
    alice, bob = await owners(database)
    linked, other = an_identity(alice), an_identity(alice, subject="2")
    await add(database, linked, other)
    sessions = [a_session(owner) for owner in (alice, alice, alice, bob)]
    async with database.transaction() as store:
        for session in sessions:
            await store.sessions.add(session, None)
        await store.identities.mark_session(sessions[0].id, linked.id)
        await store.identities.mark_session(sessions[1].id, other.id)
        assert await store.identities.end_sessions(bob.id, linked.id) == 0
        assert await store.identities.end_sessions(alice.id, linked.id) == 1
        assert await store.identities.end_sessions(alice.id, linked.id) == 0
        left = [await store.sessions.find_owner_by_id(session.id) for session in sessions]
    assert left == [None, alice.id, alice.id, bob.id]
    # Without its identity, a session goes on, and does not lose its row.
    async with database.transaction() as store:
        await store.identities.remove(alice.id, other.id)
        assert await store.sessions.find_owner_by_id(sessions[1].id) == alice.id


async def test_a_deleted_account_loses_its_identities(database: Database) -> None:
    alice, bob = await owners(database)
    linked = an_identity(alice)
    await add(database, linked)
    async with database.transaction() as store:
        await store.users.lock(alice.id)
        assert await store.users.delete(alice.id)
        assert await store.identities.find_by_id(linked.id) is None
    assert await add(database, an_identity(bob)) == [True]
