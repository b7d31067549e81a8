"""Column types: accepted Python types, and equal results on both databases."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.storage import Database
from tests.storage.rows import AT, HASH, SECRET, a_session, a_user, sql, store_user

MOMENTS = [
    AT,
    AT.astimezone(timezone(timedelta(hours=5, minutes=30))),
    AT.astimezone(timezone(timedelta(hours=-12))),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2))),
    datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
]


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


async def test_time_is_stored_and_returned_in_utc(database: Database) -> None:
    for number, moment in enumerate(MOMENTS):
        user = a_user(created_at=moment, email_confirmed_at=moment)
        await store_user(database, user, email=f"{number}@example.com")
        async with database.read() as store:
            found = await store.users.find(user.id)
        assert found is not None
        for value in (found.created_at, found.email_confirmed_at):
            assert value == moment
            assert value is not None
            assert value.tzinfo is UTC


async def test_times_in_different_zones_are_compared_correctly(database: Database) -> None:
    # SQLite compares text: all values must be stored in the same zone.
    user = await store_user(database, a_user())
    east = AT.astimezone(timezone(timedelta(hours=14)))
    async with database.transaction() as store:
        await store.sessions.add(a_session(user, idle_expires_at=None, expires_at=east), SECRET)
        for at, alive in ((AT - timedelta(microseconds=1), 1), (AT, 0)):
            for zone in (UTC, timezone(timedelta(hours=-12)), timezone(timedelta(hours=14))):
                listed = await store.sessions.list_for_user(
                    user.id, personal=False, now=at.astimezone(zone)
                )
                assert len(listed) == alive


async def test_time_without_zone_is_rejected(database: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="time zone"):
        await store_user(database, a_user(created_at=AT.replace(tzinfo=None)))


@pytest.mark.parametrize(
    "value", ["canary", b"canary", PasswordHash("canary")], ids=["str", "bytes", "password hash"]
)
async def test_secret_column_accepts_only_a_secret_hash(
    database: Database, database_url: str, value: Any
) -> None:
    user = await store_user(database, a_user())
    with pytest.raises(sa.exc.StatementError) as caught:
        async with database.transaction() as store:
            await store.sessions.add(a_session(user), value)
    assert "canary" not in str(caught.value)
    assert sql(database_url, "SELECT count(*) FROM authapi_sessions") == [(0,)]
    with pytest.raises(sa.exc.StatementError):
        async with database.read() as store:
            await store.sessions.find_by_secret(value, a_session(user).kind)


@pytest.mark.parametrize(
    "value", ["canary", b"canary", SecretHash(b"canary")], ids=["str", "bytes", "secret hash"]
)
async def test_password_column_accepts_only_a_password_hash(
    database: Database, database_url: str, value: Any
) -> None:
    with pytest.raises(sa.exc.StatementError) as caught:
        async with database.transaction() as store:
            await store.users.add(a_user(), email="alice@example.com", password_hash=value)
    assert "canary" not in str(caught.value)
    user = await store_user(database, a_user())
    with pytest.raises(sa.exc.StatementError):
        async with database.transaction() as store:
            await store.users.set_password(user.id, value, at=AT)
    assert sql(database_url, "SELECT password_hash FROM authapi_users") == [(HASH.text,)]


async def test_hashes_are_returned_unchanged(database: Database, database_url: str) -> None:
    user = await store_user(database, a_user())
    async with database.transaction() as store:
        await store.sessions.add(a_session(user), SECRET)
        found = await store.users.find_credentials(user.id)
        assert found is not None
        assert found[1] == HASH
        assert await store.sessions.find_by_secret(SECRET, a_session(user).kind) is not None
        assert await store.sessions.find_by_secret(hash_secret("x"), a_session(user).kind) is None
    [(kept,)] = sql(database_url, "SELECT secret_hash FROM authapi_sessions")
    assert bytes(kept) == SECRET.digest


async def test_database_errors_contain_no_parameters(database: Database) -> None:
    user = await store_user(database, a_user())
    session = a_session(user, data={"word": "canary"})
    async with database.transaction() as store:
        await store.sessions.add(session, SECRET)
    with pytest.raises(sa.exc.IntegrityError) as caught:
        async with database.transaction() as store:
            await store.sessions.add(session, SECRET)
    assert "canary" not in str(caught.value)
    assert SECRET.digest.hex() not in str(caught.value)
