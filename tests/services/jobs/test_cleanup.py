"""Cleanup deletes expired rows and no others, also with wrong clocks."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import anyio
import pytest
import sqlalchemy as sa
import time_machine

from authapi.crypto.ids import first_id_at, new_id
from authapi.crypto.secrets import hash_secret
from authapi.domain.client import Client
from authapi.domain.email_token import EmailToken, Purpose
from authapi.domain.events import Event, EventType
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.services import Services
from authapi.settings import Settings
from authapi.storage import Database
from tests.storage.rows import a_session, a_user, store_user
from tests.tables import email_tokens, events, sessions

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

NOTHING = dict.fromkeys(
    (
        *("outbox entries", "email tokens", "user names", "login tickets", "enrolments"),
        "used challenges",
    ),
    0,
)


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    found = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]
    yield found
    await found.stop()


@pytest.fixture
async def alice(services: Services) -> User:
    return await store_user(services.database, a_user())


async def store_sessions(database: Database, user: User, *ends: datetime) -> list[Session]:
    found = [a_session(user, expires_at=end, idle_expires_at=None) for end in ends]
    async with database.transaction() as store:
        for session in found:
            await store.sessions.add(session, hash_secret(str(session.id)))
    return found


async def ids(database: Database, table: sa.Table) -> set[UUID]:
    async with database.engine.connect() as connection:
        return set((await connection.execute(sa.select(table.c.id))).scalars())


async def store_event(database: Database, at: datetime) -> Event:
    key = UUID(int=first_id_at(at).int | new_id().int & (1 << 62) - 1)
    event = Event(
        id=key,
        at=at,
        type=EventType.LOGIN,
        user_id=None,
        session_id=None,
        strategy=None,
        client=Client(),
        detail={},
    )
    async with database.transaction() as store:
        await store.events.add(event)
    return event


async def test_sessions_that_expired_an_hour_ago_are_deleted(
    services: Services, alice: User
) -> None:
    at = datetime.now(UTC)
    ends = (at - DAY, at - HOUR - timedelta(minutes=1), at - HOUR / 2, at + HOUR, at + DAY)
    stored = await store_sessions(services.database, alice, *ends)
    assert await services.cleanup.run_once() == {"sessions": 2, "events": 0, **NOTHING}
    assert await ids(services.database, sessions) == {session.id for session in stored[2:]}
    assert await services.cleanup.run_once() == {"sessions": 0, "events": 0, **NOTHING}, (
        "a second run deletes nothing"
    )


async def test_more_rows_than_a_batch_are_deleted(services: Services, alice: User) -> None:
    at = datetime.now(UTC)
    await store_sessions(services.database, alice, *[at - DAY] * 1203, at + DAY)
    assert await services.sessions.prune() == 1203
    assert len(await ids(services.database, sessions)) == 1


@pytest.mark.parametrize("shift", [-400 * DAY, -HOUR])
async def test_with_the_clock_set_back_no_valid_row_is_deleted(
    services: Services, alice: User, shift: timedelta
) -> None:
    at = datetime.now(UTC)
    stored = await store_sessions(services.database, alice, at + HOUR, at - HOUR / 2)
    kept = await store_event(services.database, at)
    with time_machine.travel(at + shift):
        await services.cleanup.run_once()
    assert await ids(services.database, sessions) == {session.id for session in stored}
    assert await ids(services.database, events) == {kept.id}


async def test_with_the_clock_ahead_no_session_is_deleted_that_is_valid_by_the_database(
    postgres_url: str,
) -> None:
    services = Services.build(Settings(database_url=postgres_url))  # type: ignore[arg-type]
    alice = await store_user(services.database, a_user())
    at = datetime.now(UTC)
    live, _ = await store_sessions(services.database, alice, at + HOUR, at - DAY)
    with time_machine.travel(at + 30 * DAY):
        assert await services.sessions.prune() == 1
    assert await ids(services.database, sessions) == {live.id}
    await services.stop()


async def test_events_are_kept_for_events_retention(services: Services) -> None:
    at = datetime.now(UTC)
    retention = Settings().events_retention
    old = await store_event(services.database, at - retention - HOUR)
    young = await store_event(services.database, at - retention + HOUR)
    assert await ids(services.database, events) == {old.id, young.id}
    assert await services.cleanup.run_once() == {"sessions": 0, "events": 1, **NOTHING}
    assert await ids(services.database, events) == {young.id}


async def test_expired_email_tokens_are_deleted(services: Services, alice: User) -> None:
    at = datetime.now(UTC)
    secrets = [
        EmailToken(
            id=new_id(),
            user_id=alice.id,
            purpose=Purpose.RESET,
            email="alice@example.com",
            email_given="alice@example.com",
            password_version=0,
            created_at=at - HOUR,
            expires_at=at + ends,
        )
        for ends in (-HOUR, -timedelta(seconds=1), timedelta(seconds=30))
    ]
    async with services.database.transaction() as store:
        for secret in secrets:
            await store.email_tokens.add(secret, hash_secret(str(secret.id)))
    assert (await services.cleanup.run_once())["email tokens"] == 2
    assert await ids(services.database, email_tokens) == {secrets[2].id}


async def test_one_process_prunes_at_a_time(postgres_url: str) -> None:
    services = Services.build(Settings(database_url=postgres_url))  # type: ignore[arg-type]
    alice = await store_user(services.database, a_user())
    await store_sessions(services.database, alice, datetime.now(UTC) - DAY)
    async with services.database.transaction() as other:
        assert await other.try_advisory_lock("prune sessions")
        assert await services.sessions.prune() == 0, "another process holds the lock"
    assert await services.sessions.prune() == 1
    await services.stop()


async def test_the_task_runs_periodically_and_survives_a_failure(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(database_url=sqlite_url, prune_interval=timedelta(milliseconds=5))  # type: ignore[arg-type]
    services = Services.build(settings)
    alice = await store_user(services.database, a_user())
    live, _ = await store_sessions(
        services.database, alice, datetime.now(UTC) + DAY, datetime.now(UTC) - DAY
    )
    prune, failures = services.cleanup._tasks["sessions"], iter([OSError("a full disk")])

    async def first_fails() -> int:
        for failure in failures:
            raise failure
        return await prune()

    monkeypatch.setitem(services.cleanup._tasks, "sessions", first_fails)
    with caplog.at_level(logging.INFO, logger="authapi.services.jobs.cleanup"):
        services.cleanup.start()
        with anyio.fail_after(10):
            while await ids(services.database, sessions) != {live.id}:  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # there is no event for a deleted row
        await services.stop()
    assert caplog.records[0].getMessage() == "cleanup of sessions failed, will retry"
