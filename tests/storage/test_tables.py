"""Queries on users and sessions."""

from dataclasses import replace
from datetime import timedelta

import pytest

from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import hash_secret
from authapi.domain.client import Client
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User, UserFilter, UserOrder, UserPosition
from authapi.storage import Database
from authapi.storage.tables.users import Credentials, NewUser
from tests.storage.rows import AT, HASH, SECRET, a_session, a_user, sql, store_user, stored_users

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


async def store_sessions(database: Database, *sessions: Session) -> None:
    async with database.transaction() as store:
        for session in sessions:
            await store.sessions.add(session, hash_secret(str(session.id)))


async def two_users(database: Database) -> tuple[User, User]:
    alice = await store_user(database, a_user(), email="a@x.org")
    return alice, await store_user(database, a_user(), email="b@x.org")


async def all_ids(database: Database, user: User) -> set[object]:
    async with database.read() as store:
        kept = [
            await store.sessions.list_for_user(user.id, personal=personal, now=AT - 999 * DAY)
            for personal in (True, False)
        ]
    return {session.id for sessions in kept for session in sessions}


async def test_user_is_stored_and_returned(database: Database) -> None:
    user = a_user(name=None, is_active=False, is_superuser=True, email_confirmed_at=AT)
    await store_user(database, user)
    async with database.read() as store:
        assert await store.users.find(user.id) == user
        assert await store.users.find_by_email("alice@example.com") == user
        assert await store.users.find_credentials(user.id) == Credentials(user, HASH, 0)
        assert await store.users.find_credentials_by_email("alice@example.com") == Credentials(
            user, HASH, 0
        )
        # By the canonical address only, because databases differ in case conversion.
        assert await store.users.find_by_email("Alice@example.com") is None


async def test_session_is_stored_and_returned_with_its_user(database: Database) -> None:
    user = await store_user(database, a_user())
    whole = a_session(user)
    empty = a_session(
        user,
        kind=SessionKind.JWT,
        scopes=frozenset(),
        idle_expires_at=None,
        amr=(),
        client=Client(),
        data={},
    )
    async with database.transaction() as store:
        await store.sessions.add(whole, SECRET)
        await store.sessions.add(empty, None)
    async with database.read() as store:
        assert await store.sessions.find_by_secret(SECRET, whole.kind) == (whole, user)
        assert await store.sessions.find_with_user(empty.id) == (empty, user)
        assert await store.sessions.find_data(whole.id) == whole.data


async def test_session_is_found_by_its_own_kind_only(database: Database, database_url: str) -> None:
    sql(
        database_url,
        "INSERT INTO authapi_signing_keys (kid, algorithm, state, public_jwk, created_at) "
        "VALUES ('a key', 'ES256', 'active', '{}', '2026-03-04 05:06:07')",
    )
    user = await store_user(database, a_user())
    session = a_session(user)
    async with database.transaction() as store:
        await store.sessions.add(session, SECRET)
    async with database.read() as store:
        for kind in (SessionKind.TOKEN, SessionKind.JWT):
            assert await store.sessions.find_by_secret(SECRET, kind) is None
            assert await store.sessions.find_by_signed_id(session.id, kind, kid="a key") is None
        for own in (session.kind, None):
            found = await store.sessions.find_by_signed_id(session.id, own, kid="a key")
            assert found == (session, user)


async def test_pages_have_no_gap_or_overlap(database: Database) -> None:
    users = [await store_user(database, a_user(), email=f"{n}@example.com") for n in range(7)]
    found: list[User] = []
    async with database.read() as store:
        while page := await store.users.search(
            UserFilter(),
            order=UserOrder.OLDEST,
            after=UserPosition(found[-1].id, created_at=AT) if found else None,
            limit=3,
        ):
            assert len(page) <= 3
            found += page
    assert found == sorted(users, key=lambda user: user.id.bytes)


async def test_update_changes_one_user_only(database: Database) -> None:
    alice, bob = await two_users(database)
    other = PasswordHash("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$BBBB")
    later = AT + HOUR
    async with database.transaction() as store:
        await store.users.set_name(alice.id, None, at=later)
        await store.users.set_password(alice.id, other, at=later)
        await store.users.set_active(alice.id, False, at=later)
        changed = replace(alice, name=None, is_active=False, updated_at=later)
        assert await store.users.find_credentials(alice.id) == Credentials(changed, other, 1)
        assert await store.users.find_credentials(bob.id) == Credentials(bob, HASH, 0)


async def test_owner_changes_columns_of_the_profile_only(database: Database) -> None:
    alice, bob = await two_users(database)
    later = AT + HOUR
    async with database.transaction() as store:
        await store.users.set_profile(alice.id, {"name": "Al", "locale": "ko"}, at=later)
        assert await store.users.find(alice.id) == replace(
            alice, name="Al", locale="ko", updated_at=later
        )
        assert await store.users.find(bob.id) == bob
        for column in ("id", "is_superuser", "roles", "password_hash", "email_confirmed_at", "x"):
            with pytest.raises(ValueError, match="owner does not change"):
                await store.users.set_profile(alice.id, {"name": "A", column: None}, at=later)


async def test_hash_is_replaced_only_if_unchanged(database: Database) -> None:
    user = await store_user(database, a_user())
    chosen, stronger = (PasswordHash(f"$argon2id$v=19$m=64,t={n},p=1$x$x") for n in (2, 3))
    async with database.transaction() as store:
        await store.users.set_password(user.id, chosen, at=AT)
        await store.users.replace_hash(user.id, HASH, stronger)
        assert await store.users.lock(user.id) == Credentials(user, chosen, 1)
        await store.users.replace_hash(user.id, chosen, stronger)
        assert await store.users.lock(user.id) == Credentials(user, stronger, 1)


async def test_add_missing_skips_existing_addresses(database: Database) -> None:
    alice = await store_user(database, a_user(), email="alice@x.org")
    bob = a_user(name="Bob", roles=frozenset({"editor"}), locale="ko", email_confirmed_at=AT)
    twin, other, without = a_user(name="Twin"), a_user(name="Other"), a_user(name=None)
    hashed = PasswordHash("foreign:$2b$04$" + "a" * 53)
    async with database.transaction() as store:
        added = await store.users.add_missing(
            [
                NewUser(bob, "bob@x.org", hashed),
                NewUser(twin, "bob@x.org", HASH),
                NewUser(other, "alice@x.org", HASH),
                NewUser(without, "without@x.org", None),
            ]
        )
    assert added == {bob.id, without.id}
    async with database.read() as store:
        assert await store.users.find_credentials_by_email("bob@x.org") == Credentials(
            bob, hashed, 0
        )
        assert await store.users.find_credentials_by_email("alice@x.org") == Credentials(
            alice, HASH, 0
        )
        assert await store.users.find_credentials_by_email("without@x.org") == Credentials(
            without, None, 0
        )
        found = await store.users.find_existing_emails(["bob@x.org", "alice@x.org", "carol@x.org"])
        assert found == {"bob@x.org", "alice@x.org"}
    assert len(await stored_users(database)) == 3


async def test_add_missing_inserts_many_users(database: Database) -> None:
    newcomers = [NewUser(a_user(), f"{n}@x.org", HASH) for n in range(2500)]
    async with database.transaction() as store:
        assert len(await store.users.add_missing(newcomers)) == 2500
        assert await store.users.add_missing(newcomers) == set()


async def test_deleting_a_user_deletes_its_rows(database: Database, database_url: str) -> None:
    alice, bob = await two_users(database)
    await store_sessions(database, a_session(alice), a_session(alice), kept := a_session(bob))
    async with database.transaction() as store:
        await store.users.delete(alice.id)
        assert await store.users.find(alice.id) is None
    assert sql(database_url, "SELECT count(*) FROM authapi_sessions") == [(1,)]
    assert await all_ids(database, bob) == {kept.id}


async def test_list_contains_live_sessions_newest_first(database: Database) -> None:
    user = await store_user(database, a_user())
    stranger = await store_user(database, a_user(), email="b@x.org")
    end = AT + HOUR
    never_idle = a_session(user, idle_expires_at=None)
    alive = a_session(user, idle_expires_at=end, expires_at=end)
    idle = a_session(user, idle_expires_at=AT)
    over = a_session(user, idle_expires_at=None, expires_at=AT)
    token = a_session(user, kind=SessionKind.TOKEN, name="script", idle_expires_at=None)
    await store_sessions(database, never_idle, alive, idle, over, token, a_session(stranger))
    async with database.read() as store:
        logins = await store.sessions.list_for_user(user.id, personal=False, now=AT)
        assert logins == sorted([never_idle, alive], key=lambda s: s.id.bytes, reverse=True)
        assert await store.sessions.list_for_user(user.id, personal=True, now=AT) == [token]
        assert await store.sessions.list_for_user(user.id, personal=False, now=end) == [never_idle]
        assert (
            len(await store.sessions.list_for_user(user.id, personal=False, now=AT, limit=1)) == 1
        )


async def test_last_seen_never_decreases(database: Database) -> None:
    user = await store_user(database, a_user())
    session, other = a_session(user), a_session(user)
    await store_sessions(database, session, other)
    async with database.transaction() as store:
        await store.sessions.record_uses([])
        for seen, expected in ((AT + HOUR, AT + HOUR), (AT + HOUR, AT + HOUR), (AT, AT + HOUR)):
            await store.sessions.record_uses([(session.id, seen, seen + DAY)])
            found = await store.sessions.lock(session.id)
            assert found is not None
            assert (found.last_seen_at, found.idle_expires_at) == (expected, expected + DAY)
        assert await store.sessions.lock(other.id) == other


async def test_end_for_user_requires_the_owner_and_kind(database: Database) -> None:
    alice, bob = await two_users(database)
    login, token = a_session(alice), a_session(alice, name="script")
    await store_sessions(database, login, token)
    async with database.transaction() as store:
        assert not await store.sessions.end_for_user(login.id, bob.id, personal=False)
        assert not await store.sessions.end_for_user(login.id, alice.id, personal=True)
        assert not await store.sessions.end_for_user(token.id, alice.id, personal=False)
    assert await all_ids(database, alice) == {login.id, token.id}
    async with database.transaction() as store:
        assert await store.sessions.end_for_user(login.id, alice.id, personal=False)
        assert not await store.sessions.end_for_user(login.id, alice.id, personal=False)
        assert await store.sessions.end_for_user(token.id, alice.id, personal=True)
    assert await all_ids(database, alice) == set()


async def test_end_all_keeps_the_given_sessions(database: Database) -> None:
    alice, bob = await two_users(database)
    kept, login, token = a_session(alice), a_session(alice), a_session(alice, name="script")
    await store_sessions(database, kept, login, token, strangers := a_session(bob))
    async with database.transaction() as store:
        assert await store.sessions.end_all(alice.id, keep=[kept.id], logins_only=True) == 1
    assert await all_ids(database, alice) == {kept.id, token.id}
    async with database.transaction() as store:
        assert await store.sessions.end_all(alice.id, keep=[kept.id]) == 1
        assert await store.sessions.end_all(alice.id) == 1
    assert await all_ids(database, alice) == set()
    assert await all_ids(database, bob) == {strangers.id}


async def test_replaced_secret_is_invalid(database: Database) -> None:
    user = await store_user(database, a_user())
    session = a_session(user)
    async with database.transaction() as store:
        await store.sessions.add(session, SECRET)
        await store.sessions.replace_secret(session.id, hash_secret("another"), auth_time=AT + HOUR)
        assert await store.sessions.find_by_secret(SECRET, session.kind) is None
        found = await store.sessions.find_by_secret(hash_secret("another"), session.kind)
        assert found is not None
        assert found[0].auth_time == AT + HOUR
        assert await store.sessions.end_by_secret(SECRET, session.kind) is None
        assert await store.sessions.end_by_secret(hash_secret("another"), SessionKind.TOKEN) is None
        assert await store.sessions.end(session.id)
        assert not await store.sessions.end(session.id)


async def test_pruning_deletes_expired_sessions_in_batches(database: Database) -> None:
    user = await store_user(database, a_user())
    old = [a_session(user, expires_at=AT - DAY) for _ in range(5)]
    just_over = a_session(user, expires_at=AT - HOUR)
    alive = a_session(user, expires_at=AT + HOUR, idle_expires_at=AT - DAY)
    await store_sessions(database, *old, just_over, alive)
    removed = []
    async with database.transaction() as store:
        while True:
            removed.append(await store.sessions.prune(now=AT, grace=HOUR, limit=2))
            if not removed[-1]:
                break
    assert removed == [2, 2, 1, 0]
    async with database.read() as store:
        assert await store.sessions.find_data(just_over.id) is not None
        assert await store.sessions.find_data(alive.id) is not None
