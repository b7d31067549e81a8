"""Commits with an unknown outcome: callbacks, logs and responses."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, closing
from uuid import UUID

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError

from authapi.crypto.ids import new_id
from authapi.domain.client import Client as Peer
from authapi.domain.events import Event, EventType
from authapi.domain.outbox import OutboxEntry
from authapi.errors import StorageUnavailable
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict
from authapi.storage.driver_errors import TransactionOutcome, outcome_of_failed_commit
from authapi.storage.sqlite import RollbackOnClose, SQLiteNotifications
from tests.storage.cancelling import until
from tests.storage.rows import AT, a_user, sql, store_user
from tests.storage.serving import serving
from tests.storage.test_driver_errors import break_commit

UNKNOWN = "the response to COMMIT was lost"
EMAILS = "SELECT email FROM authapi_users ORDER BY email"


class Line:
    """A TCP proxy in front of PostgreSQL that loses or delays the response to COMMIT."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        assert parsed.port is not None
        self._target = parsed.port
        self._url = parsed
        self.cuts = False
        """Whether the connection is closed instead of forwarding the response."""
        self.holds = False
        """Whether the response is delayed until `released` is set."""
        self.released = asyncio.Event()
        self.committing = asyncio.Event()
        """Set when the server has responded to a COMMIT."""
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Runs the proxy, and yields the URL of the database through it."""
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            url = self._url.set(host="127.0.0.1", port=port, query={"sslmode": "disable"})
            yield url.render_as_string(hide_password=False)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        commits = asyncio.Event()

        async def to_server() -> None:
            while data := await reader.read(65536):
                if b"COMMIT\0" in data and (self.cuts or self.holds):
                    commits.set()
                back.write(data)

        async def to_client() -> None:
            while data := await there.read(65536):
                if commits.is_set():
                    self.committing.set()
                    if self.cuts:
                        break
                    await self.released.wait()
                writer.write(data)

        with closing(writer), closing(back):
            pumps = [asyncio.create_task(pump()) for pump in (to_server, to_client)]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


@pytest.fixture
def line(postgres_url: str) -> Line:
    return Line(postgres_url)


class Callbacks:
    """Records the callbacks of a database."""

    def __init__(self) -> None:
        self.committed: list[Event] = []
        self.changed: list[Collection[UUID]] = []
        self.queued = 0

    def open(self, url: str, *, timeout: float = 5) -> Database:
        return Database(
            url,
            timeout=timeout,
            on_commit=self.committed.append,
            on_change=[self.changed.append],
            on_queued=self._queue,
        )

    def _queue(self) -> None:
        self.queued += 1


def an_event() -> Event:
    return Event(
        id=new_id(),
        at=AT,
        type=EventType.ACCOUNT_REGISTERED,
        user_id=None,
        session_id=None,
        strategy=None,
        client=Peer(ip="2001:db8::1", request_id="r-1"),
        detail={},
    )


def an_entry() -> OutboxEntry:
    return OutboxEntry(
        id=new_id(),
        kind="test",
        purpose="about",
        user_id=None,
        payload=b"encrypted",
        created_at=AT,
        due_at=AT,
        expires_at=AT,
    )


async def change(database: Database, happened: Event) -> None:
    """Stores a user, an event and an outbox entry in one transaction."""
    async with database.transaction() as store:
        await store.users.add(a_user(), email="alice@example.com", password_hash=None)
        await store.events.add(happened)
        await store.outbox.add(an_entry())
        store.changed.add(new_id())


def unknown_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [it for it in caplog.records if UNKNOWN in it.getMessage()]


async def test_lost_response_is_reported_as_unknown(
    line: Line, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with line.running() as url:
        callbacks, happened = Callbacks(), an_event()
        database = callbacks.open(url)
        await database.ping()
        line.cuts = True
        with pytest.raises(StorageUnavailable):
            await change(database, happened)
        line.cuts = False
        assert sql(postgres_url, EMAILS) == [("alice@example.com",)]
        assert len(callbacks.changed) == 1, "cached values are removed"
        assert callbacks.committed == [], "nothing is reported as committed"
        assert callbacks.queued == 1, "the worker looks for the entry, which may be stored"
        [record] = unknown_of(caplog)
        assert record.levelno == logging.ERROR
        assert record.__dict__["events"] == [f"account_registered {happened.id}"]
        await store_user(database, a_user(), email="next@example.com")
        assert database.connections_in_use == 0
        await database.close()


async def test_request_with_lost_commit_response_is_503(
    line: Line, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with line.running() as url, serving(url) as api:
        assert (await api.get("/me")).json()["name"] is None  # cached from here on
        caplog.clear()
        caplog.set_level(logging.INFO, "authapi.events")
        line.cuts = True
        answer = await api.patch("/me", json={"name": "Robert"})
        line.cuts = False
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        # A background job may commit at the same time, without a request id.
        asked = answer.json()["request_id"]
        [record] = [it for it in unknown_of(caplog) if it.__dict__["request_id"] == asked]
        [named] = record.__dict__["events"]
        assert named.startswith("account_renamed ")
        assert not [it for it in caplog.records if it.name == "authapi.events"]
        assert sql(postgres_url, "SELECT name FROM authapi_users") == [("Robert",)]
        assert (await api.get("/me")).json()["name"] == "Robert"
        assert (await api.patch("/me", json={"name": "Rob"})).status_code == 200


async def test_call_with_unknown_outcome_is_not_retried(line: Line, postgres_url: str) -> None:
    async with line.running() as url:
        database, runs = Database(url), 0

        @retry_on_conflict
        async def call() -> None:
            nonlocal runs
            runs += 1
            await change(database, an_event())

        line.cuts = True
        with pytest.raises(StorageUnavailable):
            await call()
        assert runs == 1
        assert sql(postgres_url, EMAILS) == [("alice@example.com",)]
        await database.close()


async def test_outcome_is_reported_if_the_caller_is_cancelled_at_the_commit(
    line: Line, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with line.running() as url:
        callbacks, happened = Callbacks(), an_event()
        database = callbacks.open(url)
        line.holds = True
        task = asyncio.create_task(change(database, happened))
        with anyio.fail_after(5):
            await line.committing.wait()
            for _ in range(2):
                task.cancel()
                await asyncio.wait([task], timeout=0.05)
            assert task.cancelled()
            line.released.set()
            await database.close()
        assert callbacks.committed == [happened]
        assert (len(callbacks.changed), callbacks.queued) == (1, 1)
        assert unknown_of(caplog) == []


async def test_commit_timeout_is_an_unknown_outcome(
    line: Line, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with line.running() as url:
        callbacks = Callbacks()
        database = callbacks.open(url, timeout=0.5)
        await database.ping()
        line.holds = True
        with anyio.fail_after(10), pytest.raises(StorageUnavailable):
            await change(database, an_event())
        line.released.set()
        assert (callbacks.committed, len(callbacks.changed), callbacks.queued) == ([], 1, 1)
        assert len(unknown_of(caplog)) == 1
        assert sql(postgres_url, EMAILS) == [("alice@example.com",)]
        await database.close()


@pytest.fixture
def slow_commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Delays the COMMIT of SQLite until this is set."""
    released = threading.Event()
    commit = RollbackOnClose.commit

    def slow(connection: RollbackOnClose) -> None:
        assert released.wait(30)
        commit(connection)

    monkeypatch.setattr(RollbackOnClose, "commit", slow)
    yield released
    released.set()


async def test_sqlite_commit_timeout_is_an_unknown_outcome(
    sqlite_url: str, slow_commit: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks()
    database = callbacks.open(sqlite_url, timeout=0.05)
    with anyio.fail_after(10), pytest.raises(StorageUnavailable):
        await change(database, an_event())
    assert (callbacks.committed, len(callbacks.changed), callbacks.queued) == ([], 1, 1)
    assert len(unknown_of(caplog)) == 1
    # Values cached in the meantime are removed when the thread has committed.
    watcher = database.notifications
    assert isinstance(watcher, SQLiteNotifications)
    watcher.open()
    watcher.has_new()
    slow_commit.set()
    await until(watcher.has_new)
    assert sql(sqlite_url, EMAILS) == [("alice@example.com",)]
    watcher.close()
    await database.close()


@pytest.mark.parametrize("code", ["40001", "40P01", "23514", "53100", "57014"])
async def test_refused_commit_is_rolled_back(
    postgres_url: str, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    break_commit(postgres_url, code)
    callbacks = Callbacks()
    database = callbacks.open(postgres_url)
    with pytest.raises(Exception):  # noqa: B017, PT011  # 503 or 500: other tests say which
        await change(database, an_event())
    assert (callbacks.committed, len(callbacks.changed), callbacks.queued) == ([], 1, 0)
    assert unknown_of(caplog) == []
    assert sql(postgres_url, EMAILS) == []
    await database.close()


async def test_session_terminated_at_the_commit(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    sql(
        postgres_url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON authapi_users DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    callbacks = Callbacks()
    database = callbacks.open(postgres_url)
    with pytest.raises(StorageUnavailable):
        await change(database, an_event())
    assert (callbacks.committed, len(callbacks.changed)) == ([], 1)
    assert len(unknown_of(caplog)) == 1
    await database.close()


async def test_failure_before_the_commit_is_rolled_back(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks()
    database = callbacks.open(database_url)

    async def fail() -> None:
        async with database.transaction() as store:
            await store.outbox.add(an_entry())
            store.changed.add(new_id())
            raise StorageUnavailable

    with pytest.raises(StorageUnavailable):
        await fail()
    assert (callbacks.committed, len(callbacks.changed), callbacks.queued) == ([], 1, 0)
    assert unknown_of(caplog) == []
    await database.close()


def test_commit_that_was_not_sent_is_rolled_back() -> None:
    assert (
        outcome_of_failed_commit(InvalidRequestError("this transaction is inactive"))
        is TransactionOutcome.ROLLED_BACK
    )
    assert outcome_of_failed_commit(TimeoutError()) is TransactionOutcome.UNKNOWN
    assert outcome_of_failed_commit(asyncio.CancelledError()) is TransactionOutcome.UNKNOWN
