"""Last uses: noted at once, written in batches, lost by no failure."""

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
from authapi.errors import StorageUnavailable
from authapi.identity import Session, SessionKind
from authapi.services import Lifetime, Services
from authapi.services.addresses import parse_email
from authapi.services.callers.activity import Activity
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.testing import PASSWORD
from tests.storage.rows import AT, a_session, a_user, store_user

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


class Watched(Database):
    """A database that counts its transactions, and fails when it is told to."""

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
async def database(database_url: str) -> AsyncIterator[Watched]:
    found = Watched(database_url)
    yield found
    await found.close()


@pytest.fixture
def activity(database: Watched) -> Activity:
    return Activity(database, Settings())


def idle(session: Session) -> timedelta | None:
    ends = session.idle_expires_at
    return None if ends is None else ends - session.last_seen_at


def saw(activity: Activity, session: Session, at: datetime) -> None:
    activity.saw(session.id, at, idle=idle(session))


def last_seen(activity: Activity, session: Session) -> datetime:
    return activity.last_seen(session.id, session.last_seen_at)


def is_idle(activity: Activity, session: Session, at: datetime) -> bool:
    return activity.is_idle(session.id, at, written=session.last_seen_at, idle=idle(session))


async def three(database: Database) -> list[Session]:
    user = await store_user(database, a_user())
    made = [a_session(user), a_session(user), a_session(user, idle_expires_at=None)]
    async with database.transaction() as store:
        for session in made:
            await store.sessions.add(session, hash_secret(str(session.id)))
    return made


async def kept(database: Database, session: Session) -> tuple[datetime, datetime | None]:
    async with database.transaction() as store:
        found = await store.sessions.lock(session.id)
    assert found is not None
    return found.last_seen_at, found.idle_expires_at


async def test_uses_are_written_together(database: Watched, activity: Activity) -> None:
    sessions = await three(database)
    for seconds in range(1, 6):
        for session in sessions:
            saw(activity, session, AT + seconds * SECOND)
    assert [await kept(database, session) for session in sessions] == [
        (AT, AT + DAY),
        (AT, AT + DAY),
        (AT, None),
    ]
    database.count = 0
    await activity.flush()
    assert database.count == 1
    latest = AT + 5 * SECOND
    assert [await kept(database, session) for session in sessions] == [
        (latest, latest + DAY),
        (latest, latest + DAY),
        (latest, None),
    ]
    database.count = 0
    await activity.flush()
    assert database.count == 0


async def test_a_use_counts_here_before_it_is_written(activity: Activity) -> None:
    session = a_session(a_user())
    assert last_seen(activity, session) == AT
    assert not is_idle(activity, session, AT + DAY - SECOND)
    assert is_idle(activity, session, AT + DAY)
    saw(activity, session, AT + 5 * SECOND)
    assert last_seen(activity, session) == AT + 5 * SECOND
    assert not is_idle(activity, session, AT + DAY + 4 * SECOND)
    assert is_idle(activity, session, AT + DAY + 5 * SECOND)
    assert not is_idle(activity, a_session(a_user(), idle_expires_at=None), AT + 999 * DAY)


async def test_what_another_process_saw_later_counts(activity: Activity) -> None:
    session = a_session(a_user())
    saw(activity, session, AT + SECOND)
    read_again = a_session(
        a_user(), id=session.id, last_seen_at=AT + 9 * SECOND, idle_expires_at=AT + DAY + 9 * SECOND
    )
    assert last_seen(activity, read_again) == AT + 9 * SECOND
    assert not is_idle(activity, read_again, AT + DAY + 8 * SECOND)
    assert is_idle(activity, read_again, AT + DAY + 9 * SECOND)


async def test_nothing_written_goes_backwards(database: Watched, activity: Activity) -> None:
    [session, *_] = await three(database)
    ahead, behind = activity, Activity(database, Settings())
    saw(ahead, session, AT + 9 * SECOND)
    saw(behind, session, AT + 3 * SECOND)
    await ahead.flush()
    await behind.flush()
    assert (await kept(database, session))[0] == AT + 9 * SECOND


@pytest.mark.parametrize("failure", [StorageUnavailable(), RuntimeError("no"), ValueError("no")])
async def test_what_could_not_be_written_is_written_the_next_time(
    database: Watched, activity: Activity, failure: Exception
) -> None:
    first, second, _ = await three(database)
    saw(activity, first, AT + SECOND)
    saw(activity, second, AT + SECOND)
    database.failure = failure
    # Used again while the writing fails: the later use wins over the batch that comes back.
    database.meanwhile = lambda: saw(activity, second, AT + 7 * SECOND)
    with pytest.raises(type(failure)):
        await activity.flush()
    del database.failure, database.meanwhile
    assert await kept(database, first) == (AT, AT + DAY)
    await activity.flush()
    assert (await kept(database, first))[0] == AT + SECOND
    assert (await kept(database, second))[0] == AT + 7 * SECOND


async def test_a_use_during_the_writing_is_written_the_next_time(
    database: Watched, activity: Activity
) -> None:
    first, second, _ = await three(database)
    saw(activity, first, AT + SECOND)
    database.meanwhile = lambda: saw(activity, second, AT + SECOND)
    await activity.flush()
    del database.meanwhile
    assert (await kept(database, second))[0] == AT
    await activity.flush()
    assert (await kept(database, second))[0] == AT + SECOND


@pytest.mark.parametrize("failure", [None, StorageUnavailable()], ids=["written", "failing"])
async def test_what_is_being_written_still_counts(
    database: Watched, activity: Activity, failure: Exception | None
) -> None:
    [session, *_] = await three(database)
    saw(activity, session, AT + SECOND)
    during: list[tuple[datetime, bool, bool]] = []

    def look() -> None:
        at = AT + DAY
        is_over = activity.is_over(replace(session, expires_at=AT + 9 * DAY), at)
        during.append((last_seen(activity, session), is_idle(activity, session, at), is_over))

    database.meanwhile, database.failure = look, failure
    with contextlib.suppress(StorageUnavailable):
        await activity.flush()
    del database.meanwhile
    assert during == [(AT + SECOND, False, False)]
    # `session` is as it was read before the commit, and is looked at after it.
    look()
    assert during[1:] == during[:1]


async def test_what_was_written_is_forgotten_after_the_next_flush(activity: Activity) -> None:
    session = a_session(a_user())
    saw(activity, session, AT + SECOND)
    await activity.flush()
    await activity.flush()
    assert last_seen(activity, session) == AT


async def test_a_session_that_was_used_lives_while_a_foreign_writer_holds_the_lock(
    database_url: str,
) -> None:
    idle_after = timedelta(seconds=4)
    services = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]
    other = Database(database_url)
    with time_machine.travel(AT, tick=False) as clock:
        await services.open()
        user = await services.accounts.create(parse_email("alice@example.com"), PASSWORD)
        login = await services.accounts.prove(parse_email(user.email), PASSWORD)
        secret, kind = hash_secret("a secret"), SessionKind.SESSION
        lifetime = Lifetime(DAY, idle_after)
        await services.sessions.begin(login, kind, lifetime=lifetime, secret=secret)

        async def is_known() -> bool:
            at = "session"
            remembered = services.sessions.recall(secret, strategy=at)
            read = await services.sessions.identify_secret(secret, kind, strategy=at)
            return read is not None and (remembered is None or remembered == read)

        assert await is_known()
        clock.shift(3 * SECOND)
        assert await is_known()
        async with other.transaction() as store:
            await store.wait_turn("activity")
            flush = asyncio.create_task(services.activity.flush())
            clock.shift(timedelta(seconds=1.7))
            # Five seconds after what is written, less than two after the last use.
            for _ in range(20):
                assert await is_known()
                await asyncio.sleep(0)
        await flush
        assert await is_known()
        clock.shift(idle_after)
        assert not await is_known()
        await services.stop()
        await other.close()


async def test_a_session_that_is_held_is_written_the_next_time(
    database: Watched, activity: Activity
) -> None:
    if database.engine.dialect.name == "sqlite":
        return  # it has one writer at a time: nothing is held while another one writes
    first, second, _ = await three(database)
    saw(activity, first, AT + SECOND)
    saw(activity, second, AT + SECOND)
    async with database.transaction() as store:
        await store.sessions.lock(first.id)
        with anyio.fail_after(2):
            await activity.flush()
        assert (await kept(database, second))[0] == AT + SECOND
        assert last_seen(activity, first) == AT + SECOND
    await activity.flush()
    assert (await kept(database, first))[0] == AT + SECOND


async def test_stopping_writes_what_is_held_for_a_moment(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Watched(postgres_url)
    activity = Activity(database, Settings())
    first, *_ = await three(database)
    saw(activity, first, AT + SECOND)
    async with database.transaction() as store:
        await store.sessions.lock(first.id)
        database.count = 0
        stopping = asyncio.create_task(activity.stop())
        await until(lambda: database.count >= 2)
    await stopping
    assert (await kept(database, first))[0] == AT + SECOND
    async with database.transaction() as store:
        await store.sessions.lock(first.id)
        saw(activity, first, AT + 2 * SECOND)
        await activity.stop()
    assert "1 sessions" in caplog.text
    await database.close()


async def test_a_cancelled_writing_loses_nothing(database: Watched, activity: Activity) -> None:
    [session, *_] = await three(database)
    saw(activity, session, AT + SECOND)
    task = asyncio.create_task(activity.flush())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await activity.flush()
    assert (await kept(database, session))[0] == AT + SECOND


async def test_an_ended_session_is_no_failure(database: Watched, activity: Activity) -> None:
    first, second, _ = await three(database)
    saw(activity, first, AT + SECOND)
    saw(activity, second, AT + SECOND)
    async with database.transaction() as store:
        await store.sessions.end(first.id)
    await activity.flush()
    assert (await kept(database, second))[0] == AT + SECOND


async def test_the_background_outlives_failures_and_the_end_writes_the_rest(
    database: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    [session, *_] = await three(database)
    activity = Activity(database, Settings(last_seen_interval=timedelta(milliseconds=1)))
    database.count, database.failure = 0, RuntimeError("away")
    saw(activity, session, AT + SECOND)
    activity.start()
    await until(lambda: database.count >= 3)
    del database.failure
    await until(lambda: last_seen(activity, session) == AT)  # nothing is noted any more
    saw(activity, session, AT + 2 * SECOND)
    await activity.stop()
    assert (await kept(database, session))[0] == AT + 2 * SECOND
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize(
    "failure", [StorageUnavailable(), sa.exc.IntegrityError("x", {}, Exception())], ids=range(2)
)
async def test_stopping_never_fails(
    database: Watched,
    activity: Activity,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [session, *_] = await three(database)
    saw(activity, session, AT + SECOND)
    activity.start()
    database.failure = failure
    await activity.stop()
    del database.failure
    assert "1 sessions" in caplog.text


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # what is awaited happens in a task of its own
            await asyncio.sleep(0.001)
