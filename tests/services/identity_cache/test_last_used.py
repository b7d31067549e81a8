"""Last uses: effective at once, written in batches, and kept when a write fails."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
import time_machine

from authapi.crypto.secrets import hash_secret
from authapi.domain.email_address import parse_email
from authapi.domain.session import Session, SessionKind
from authapi.errors import StorageUnavailable
from authapi.services import Lifetime, Services
from authapi.services.identity_cache.last_used import LastUsed
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.testing import PASSWORD
from tests.storage.rows import AT, a_session, a_user, store_user

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


class RecordingDatabase(Database):
    """A database that counts its transactions, and can fail them."""

    count = 0
    failure: Exception | None = None
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        self.count += 1
        async with super().transaction() as store:
            yield store
            self.meanwhile()
            if self.failure is not None:
                raise self.failure


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[RecordingDatabase]:
    found = RecordingDatabase(database_url)
    yield found
    await found.close()


@pytest.fixture
def last_used(database: RecordingDatabase) -> LastUsed:
    return LastUsed(database, Settings())


def idle(session: Session) -> timedelta | None:
    ends = session.idle_expires_at
    return None if ends is None else ends - session.last_seen_at


def record(last_used: LastUsed, session: Session, at: datetime) -> None:
    last_used.record(session.id, at, idle=idle(session))


def last_seen(last_used: LastUsed, session: Session) -> datetime:
    return last_used.last_seen(session.id, session.last_seen_at)


def is_idle(last_used: LastUsed, session: Session, at: datetime) -> bool:
    return last_used.is_idle(session.id, at, stored=session.last_seen_at, idle=idle(session))


async def three_sessions(database: Database) -> list[Session]:
    user = await store_user(database, a_user())
    made = [a_session(user), a_session(user), a_session(user, idle_expires_at=None)]
    async with database.transaction() as store:
        for session in made:
            await store.sessions.add(session, hash_secret(str(session.id)))
    return made


async def stored(database: Database, session: Session) -> tuple[datetime, datetime | None]:
    async with database.transaction() as store:
        found = await store.sessions.lock(session.id)
    assert found is not None
    return found.last_seen_at, found.idle_expires_at


async def test_uses_are_written_together(database: RecordingDatabase, last_used: LastUsed) -> None:
    sessions = await three_sessions(database)
    for seconds in range(1, 6):
        for session in sessions:
            record(last_used, session, AT + seconds * SECOND)
    assert [await stored(database, session) for session in sessions] == [
        (AT, AT + DAY),
        (AT, AT + DAY),
        (AT, None),
    ]
    database.count = 0
    await last_used.flush()
    assert database.count == 1
    latest = AT + 5 * SECOND
    assert [await stored(database, session) for session in sessions] == [
        (latest, latest + DAY),
        (latest, latest + DAY),
        (latest, None),
    ]
    database.count = 0
    await last_used.flush()
    assert database.count == 0


async def test_a_use_takes_effect_before_it_is_written(last_used: LastUsed) -> None:
    session = a_session(a_user())
    assert last_seen(last_used, session) == AT
    assert not is_idle(last_used, session, AT + DAY - SECOND)
    assert is_idle(last_used, session, AT + DAY)
    record(last_used, session, AT + 5 * SECOND)
    assert last_seen(last_used, session) == AT + 5 * SECOND
    assert not is_idle(last_used, session, AT + DAY + 4 * SECOND)
    assert is_idle(last_used, session, AT + DAY + 5 * SECOND)
    assert not is_idle(last_used, a_session(a_user(), idle_expires_at=None), AT + 999 * DAY)


async def test_a_later_use_in_another_process_takes_effect(last_used: LastUsed) -> None:
    session = a_session(a_user())
    record(last_used, session, AT + SECOND)
    read_again = a_session(
        a_user(), id=session.id, last_seen_at=AT + 9 * SECOND, idle_expires_at=AT + DAY + 9 * SECOND
    )
    assert last_seen(last_used, read_again) == AT + 9 * SECOND
    assert not is_idle(last_used, read_again, AT + DAY + 8 * SECOND)
    assert is_idle(last_used, read_again, AT + DAY + 9 * SECOND)


async def test_a_flush_never_moves_the_time_backwards(
    database: RecordingDatabase, last_used: LastUsed
) -> None:
    [session, *_] = await three_sessions(database)
    ahead, behind = last_used, LastUsed(database, Settings())
    record(ahead, session, AT + 9 * SECOND)
    record(behind, session, AT + 3 * SECOND)
    await ahead.flush()
    await behind.flush()
    assert (await stored(database, session))[0] == AT + 9 * SECOND


@pytest.mark.parametrize("failure", [StorageUnavailable(), RuntimeError("no"), ValueError("no")])
async def test_a_failed_flush_is_repeated(
    database: RecordingDatabase, last_used: LastUsed, failure: Exception
) -> None:
    first, second, _ = await three_sessions(database)
    record(last_used, first, AT + SECOND)
    record(last_used, second, AT + SECOND)
    database.failure = failure
    # A use during the failing flush: the later use must not be overwritten by the failed batch.
    database.meanwhile = lambda: record(last_used, second, AT + 7 * SECOND)
    with pytest.raises(type(failure)):
        await last_used.flush()
    del database.failure, database.meanwhile
    assert await stored(database, first) == (AT, AT + DAY)
    await last_used.flush()
    assert (await stored(database, first))[0] == AT + SECOND
    assert (await stored(database, second))[0] == AT + 7 * SECOND


async def test_a_use_during_a_flush_is_written_by_the_next_one(
    database: RecordingDatabase, last_used: LastUsed
) -> None:
    first, second, _ = await three_sessions(database)
    record(last_used, first, AT + SECOND)
    database.meanwhile = lambda: record(last_used, second, AT + SECOND)
    await last_used.flush()
    del database.meanwhile
    assert (await stored(database, second))[0] == AT
    await last_used.flush()
    assert (await stored(database, second))[0] == AT + SECOND


@pytest.mark.parametrize("failure", [None, StorageUnavailable()], ids=["written", "failing"])
async def test_a_use_takes_effect_while_it_is_being_written(
    database: RecordingDatabase, last_used: LastUsed, failure: Exception | None
) -> None:
    [session, *_] = await three_sessions(database)
    record(last_used, session, AT + SECOND)
    during: list[tuple[datetime, bool, bool]] = []

    def look() -> None:
        at = AT + DAY
        is_over = last_used.is_over(replace(session, expires_at=AT + 9 * DAY), at)
        during.append((last_seen(last_used, session), is_idle(last_used, session, at), is_over))

    database.meanwhile, database.failure = look, failure
    with contextlib.suppress(StorageUnavailable):
        await last_used.flush()
    del database.meanwhile
    assert during == [(AT + SECOND, False, False)]
    # `session` was read before the commit, and is checked after it.
    look()
    assert during[1:] == during[:1]


async def test_a_written_use_is_forgotten_after_the_next_flush(last_used: LastUsed) -> None:
    session = a_session(a_user())
    record(last_used, session, AT + SECOND)
    await last_used.flush()
    await last_used.flush()
    assert last_seen(last_used, session) == AT


async def test_a_used_session_stays_valid_while_another_writer_holds_the_lock(
    database_url: str,
) -> None:
    idle_after = timedelta(seconds=4)
    services = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]
    other = Database(database_url)
    with time_machine.travel(AT, tick=False) as clock:
        await services.open()
        user = await services.accounts.registration.create(
            parse_email("alice@example.com"), PASSWORD
        )
        proved = await services.accounts.authentication.authenticate(
            parse_email(user.email), PASSWORD
        )
        login = services.logins.complete_at_once(proved)
        secret, kind = hash_secret("a secret"), SessionKind.SESSION
        lifetime = Lifetime(DAY, idle_after)
        await services.sessions.create(login, kind, lifetime=lifetime, secret=secret)

        async def is_valid() -> bool:
            at = "session"
            cached = services.sessions.get_cached(secret, strategy=at)
            read = await services.sessions.identify_by_secret(secret, kind, strategy=at)
            return read is not None and (cached is None or cached == read)

        assert await is_valid()
        clock.shift(3 * SECOND)
        assert await is_valid()
        async with other.transaction() as store:
            await store.advisory_lock("last used")
            flush = asyncio.create_task(services.last_used.flush())
            clock.shift(timedelta(seconds=1.7))
            # Five seconds after the stored time, less than two after the last use.
            for _ in range(20):
                assert await is_valid()
                await asyncio.sleep(0)
        await flush
        assert await is_valid()
        clock.shift(idle_after)
        assert not await is_valid()
        await services.stop()
        await other.close()


async def test_a_locked_session_is_written_by_the_next_flush(
    database: RecordingDatabase, last_used: LastUsed
) -> None:
    if database.engine.dialect.name == "sqlite":
        return  # it has one writer at a time: no row is locked during a flush
    first, second, _ = await three_sessions(database)
    record(last_used, first, AT + SECOND)
    record(last_used, second, AT + SECOND)
    async with database.transaction() as store:
        await store.sessions.lock(first.id)
        with anyio.fail_after(2):
            await last_used.flush()
        assert (await stored(database, second))[0] == AT + SECOND
        assert last_seen(last_used, first) == AT + SECOND
    await last_used.flush()
    assert (await stored(database, first))[0] == AT + SECOND


async def test_stop_waits_a_moment_for_locked_sessions(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = RecordingDatabase(postgres_url)
    last_used = LastUsed(database, Settings())
    first, *_ = await three_sessions(database)
    record(last_used, first, AT + SECOND)
    async with database.transaction() as store:
        await store.sessions.lock(first.id)
        database.count = 0
        stopping = asyncio.create_task(last_used.stop())
        await until(lambda: database.count >= 2)
    await stopping
    assert (await stored(database, first))[0] == AT + SECOND
    async with database.transaction() as store:
        await store.sessions.lock(first.id)
        record(last_used, first, AT + 2 * SECOND)
        await last_used.stop()
    assert "1 sessions" in caplog.text
    await database.close()


async def test_a_cancelled_flush_loses_no_use(
    database: RecordingDatabase, last_used: LastUsed
) -> None:
    [session, *_] = await three_sessions(database)
    record(last_used, session, AT + SECOND)
    task = asyncio.create_task(last_used.flush())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await last_used.flush()
    assert (await stored(database, session))[0] == AT + SECOND


async def test_a_session_that_has_ended_does_not_fail_the_flush(
    database: RecordingDatabase, last_used: LastUsed
) -> None:
    first, second, _ = await three_sessions(database)
    record(last_used, first, AT + SECOND)
    record(last_used, second, AT + SECOND)
    async with database.transaction() as store:
        await store.sessions.end(first.id)
    await last_used.flush()
    assert (await stored(database, second))[0] == AT + SECOND


async def test_the_task_survives_failures_and_stop_writes_the_rest(
    database: RecordingDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    [session, *_] = await three_sessions(database)
    last_used = LastUsed(database, Settings(last_seen_interval=timedelta(milliseconds=1)))
    database.count, database.failure = 0, RuntimeError("away")
    record(last_used, session, AT + SECOND)
    last_used.start()
    await until(lambda: database.count >= 3)
    del database.failure
    await until(lambda: last_seen(last_used, session) == AT)  # no use is pending
    record(last_used, session, AT + 2 * SECOND)
    await last_used.stop()
    assert (await stored(database, session))[0] == AT + 2 * SECOND
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize(
    "failure", [StorageUnavailable(), sa.exc.IntegrityError("x", {}, Exception())], ids=range(2)
)
async def test_stop_raises_no_error_of_a_flush(
    database: RecordingDatabase,
    last_used: LastUsed,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [session, *_] = await three_sessions(database)
    record(last_used, session, AT + SECOND)
    last_used.start()
    database.failure = failure
    await last_used.stop()
    del database.failure
    assert "1 sessions" in caplog.text


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # the condition changes in another task
            await asyncio.sleep(0.001)
