"""The outbox: each committed entry is delivered at least once, by one process at a time."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
import time_machine

from authapi.crypto.ids import new_id
from authapi.domain.outbox import OutboxEntry
from authapi.errors import DeliveryFailed, StorageUnavailable
from authapi.services import Services
from authapi.services.jobs import outbox as outbox_module
from authapi.services.jobs.deliveries import Deliveries, Delivery
from authapi.services.jobs.outbox import Payload
from authapi.settings import Settings
from tests.storage.rows import a_user, sql, store_user

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@asynccontextmanager
async def open_services(url: str, **changes: Any) -> AsyncIterator[Services]:
    """Opens the services of one process. Its outbox runs only when a test calls it."""
    settings = Settings(database_url=url, mail_url="none:", **changes)  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.open()
    yield services
    await services.stop()


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    async with open_services(database_url) as found:
        yield found


@pytest.fixture
async def clock() -> AsyncIterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as found:
        yield found


Handler = Callable[[OutboxEntry, Payload], Awaitable[None]]


class RecordingHandler:
    """A handler that records the entries it receives, and raises `failures` first."""

    def __init__(self, *failures: Exception) -> None:
        self.ids: list[UUID] = []
        self.payloads: list[Payload] = []
        self._failures = list(failures)

    async def __call__(self, entry: OutboxEntry, payload: Payload) -> None:
        self.ids.append(entry.id)
        self.payloads.append(payload)
        if self._failures:
            raise self._failures.pop(0)


async def enqueue(services: Services, **about: Any) -> UUID:
    async with services.database.transaction() as store:
        return await services.outbox.enqueue(store, "test", "about", {"n": 1}, **about)


def rows(services: Services, what: str = "count(*)") -> list[Any]:
    url = services.settings.resolved_database_url
    return [
        row[0]
        for row in sql(
            url, f"SELECT {what} FROM (SELECT * FROM authapi_outbox ORDER BY id) AS entries"
        )
    ]


async def test_an_entry_is_delivered_once_and_deleted(services: Services) -> None:
    handler = RecordingHandler()
    services.outbox.register("test", handler)
    key = await enqueue(services)
    assert await services.outbox.run_due("test") == 1
    assert handler.ids == [key]
    assert handler.payloads == [{"n": 1}]
    assert rows(services) == [0]
    assert await services.outbox.run_due("test") == 0


async def test_an_entry_of_a_rolled_back_transaction_is_not_delivered(services: Services) -> None:
    handler = RecordingHandler()
    services.outbox.register("test", handler)

    async def rolled_back() -> None:
        async with services.database.transaction() as store:
            await services.outbox.enqueue(store, "test", "about", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rolled_back()
    assert await services.outbox.drain() == 0
    assert handler.ids == []


async def entries(services: Services) -> dict[UUID, OutboxEntry]:
    async with services.database.read() as store:
        return {entry.id: entry for entry in await store.outbox.page(limit=100)}


async def test_retry_delays_grow(clock: time_machine.Traveller, services: Services) -> None:
    handler = RecordingHandler(*[DeliveryFailed("away")] * 14)
    services.outbox.register("test", handler)
    key = await enqueue(services)
    delays = []
    while await services.outbox.drain():
        if entry := (await entries(services)).get(key):
            assert (entry.error, entry.attempts) == ("away", len(handler.ids))
            delays.append(int((entry.due_at - datetime.now(UTC)).total_seconds()))
            clock.shift(entry.due_at - datetime.now(UTC) - SECOND / 1000)
            assert await services.outbox.drain() == 0, "not before it is due"
            clock.shift(SECOND / 1000)
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
    assert handler.ids == [key] * 15, "the same id each time"


async def test_a_permanent_failure_is_not_retried_and_kept_for_a_week(
    clock: time_machine.Traveller, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    handler = RecordingHandler(DeliveryFailed("no such mailbox", permanent=True))
    services.outbox.register("test", handler)
    key = await enqueue(services)
    await services.outbox.drain()
    clock.shift(DAY)
    assert await services.outbox.drain() == 0
    entry = (await entries(services))[key]
    assert entry.error == "no such mailbox"
    assert entry.failed_at == START
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR
    ] == ["delivery failed permanently: no such mailbox"]
    assert await services.outbox.prune() == 0
    clock.shift(timedelta(days=6, seconds=1))
    assert await services.outbox.prune() == 1
    assert await entries(services) == {}


async def test_an_expired_entry_fails_with_its_last_error(
    clock: time_machine.Traveller, services: Services
) -> None:
    handler = RecordingHandler(*[DeliveryFailed("away")] * 9)
    services.outbox.register("test", handler)
    key = await enqueue(services, lifetime=timedelta(seconds=5))
    never = await enqueue(services, lifetime=timedelta(seconds=5))
    async with services.database.transaction() as store:
        await store.outbox.complete(never)
    await services.outbox.drain()
    clock.shift(timedelta(seconds=6))
    later = await enqueue(services, lifetime=timedelta(seconds=-1))
    await services.outbox.drain()
    found = await entries(services)
    assert found[key].error == "away"
    assert found[later].error == "expired"
    assert found[key].failed_at == found[later].failed_at == datetime.now(UTC)
    assert handler.ids == [key], "an expired entry is not delivered"


async def test_no_lifetime_exceeds_mail_lifetime(
    clock: time_machine.Traveller, services: Services
) -> None:
    key = await enqueue(services, lifetime=timedelta(days=30))
    assert (await entries(services))[key].expires_at == START + services.settings.mail_lifetime


async def test_an_expired_entry_without_a_handler_is_pruned(
    clock: time_machine.Traveller, services: Services
) -> None:
    await enqueue(services)
    clock.shift(timedelta(days=8))
    assert await services.outbox.prune() == 0
    clock.shift(timedelta(days=2))
    assert await services.outbox.prune() == 1


async def test_of_an_unexpected_error_only_the_type_is_stored(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    services.outbox.register("test", RecordingHandler(ValueError("alice@example.com hunter2")))
    key = await enqueue(services)
    await services.outbox.drain()
    assert (await entries(services))[key].error == "ValueError"
    assert "alice" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_failing_entry_does_not_delay_others(services: Services) -> None:
    bad = await enqueue(services)
    good = [await enqueue(services) for _ in range(7)]
    done: list[UUID] = []

    async def handler(entry: OutboxEntry, _: Payload) -> None:
        if entry.id == bad:
            raise DeliveryFailed("away")
        done.append(entry.id)

    services.outbox.register("test", handler)
    await services.outbox.drain()
    assert sorted(done) == sorted(good)
    assert rows(services, "error") == ["away"]


async def test_a_handler_that_hangs_times_out(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.outbox, "_delivery_timeout", 0.01)

    async def hangs(_: OutboxEntry, __: Payload) -> None:
        await asyncio.Event().wait()

    services.outbox.register("test", hangs)
    await enqueue(services)
    assert await services.outbox.run_due("test") == 1
    assert rows(services, "error") == ["TimeoutError"]


async def test_two_processes_deliver_each_entry_once(database_url: str) -> None:
    done: Counter[UUID] = Counter()
    workers: Counter[str] = Counter()

    def handler(name: str) -> Handler:
        async def work(entry: OutboxEntry, _: Payload) -> None:
            done[entry.id] += 1
            workers[name] += 1
            await asyncio.sleep(0)

        return work

    async with open_services(database_url) as one, open_services(database_url) as other:
        one.outbox.register("test", handler("one"))
        other.outbox.register("test", handler("other"))
        keys = set()
        async with one.database.transaction() as store:
            for _ in range(100):
                keys.add(await one.outbox.enqueue(store, "test", "about", {}))
        while rows(one) != [0]:
            await asyncio.gather(
                *(found.outbox.run_due("test") for found in (one, other, one, other))
            )
        assert done == dict.fromkeys(keys, 1)
        assert set(workers) == {"one", "other"}


async def test_on_postgres_a_claim_does_not_wait_for_another_claim(postgres_url: str) -> None:
    async with open_services(postgres_url) as one, open_services(postgres_url) as other:
        first, second = await enqueue(one), await enqueue(one)
        at = datetime.now(UTC) + SECOND
        async with one.database.transaction() as store:
            (mine,) = await store.outbox.claim("test", now=at, until=at + DAY, limit=1)
            with anyio.fail_after(2):
                async with other.database.transaction() as beside:
                    (theirs,) = await beside.outbox.claim("test", now=at, until=at + DAY, limit=9)
        assert {mine.id, theirs.id} == {first, second}


async def test_an_entry_of_a_process_that_died_is_delivered_by_another(
    clock: time_machine.Traveller, database_url: str
) -> None:
    async with open_services(database_url) as dying, open_services(database_url) as other:
        handler = RecordingHandler()
        other.outbox.register("test", handler)
        key = await enqueue(dying)
        async with dying.database.transaction() as store:
            lease = dying.outbox._lease
            at = datetime.now(UTC)
            await store.outbox.claim("test", now=at, until=at + lease, limit=5)
        # The process dies here, between the claim and the delivery.
        assert await other.outbox.drain() == 0
        clock.shift(lease)
        assert await other.outbox.drain() == 1
        assert handler.ids == [key]


async def test_an_entry_of_a_stopped_process_is_delivered_by_another(
    database_url: str,
) -> None:
    async with open_services(database_url) as stopping, open_services(database_url) as other:
        started = asyncio.Event()

        async def hangs(_: OutboxEntry, __: Payload) -> None:
            started.set()
            await asyncio.Event().wait()

        stopping.outbox.register("test", hangs)
        stopping.outbox.start()
        key = await enqueue(stopping)
        with anyio.fail_after(10):
            await started.wait()
            await stopping.outbox.stop()
        handler = RecordingHandler()
        other.outbox.register("test", handler)
        assert await other.outbox.drain() == 0, (
            "it may have been delivered: not before the lease ends"
        )
        with time_machine.travel(datetime.now(UTC) + stopping.outbox._lease + SECOND):
            assert await other.outbox.drain() == 1
        assert handler.ids == [key]


async def test_stop_waits_for_a_delivery_that_is_nearly_finished(services: Services) -> None:
    started = asyncio.Event()

    async def slow(_: OutboxEntry, __: Payload) -> None:
        started.set()
        await asyncio.sleep(0.1)

    services.outbox.register("test", slow)
    services.outbox.start()
    await enqueue(services)
    with anyio.fail_after(10):
        await started.wait()
        await services.outbox.stop()
    assert rows(services) == [0]


async def test_a_process_that_lost_its_lease_stores_no_result(
    clock: time_machine.Traveller, database_url: str
) -> None:
    async with open_services(database_url) as slow, open_services(database_url) as other:
        key = await enqueue(slow)

        async def overtaken(_: OutboxEntry, __: Payload) -> None:
            clock.shift(slow.outbox._lease)
            async with other.database.transaction() as store:
                at = datetime.now(UTC)
                await store.outbox.claim("test", now=at, until=at + DAY, limit=5)
            raise DeliveryFailed("too late", permanent=True)

        slow.outbox.register("test", overtaken)
        await slow.outbox.run_due("test")
        entry = (await entries(slow))[key]
        assert entry.failed_at is None
        assert entry.error is None
        assert entry.attempts == 2


async def test_a_running_worker_delivers_a_new_entry_at_once(services: Services) -> None:
    done = asyncio.Event()

    async def handler(_: OutboxEntry, __: Payload) -> None:
        done.set()

    services.outbox.register("test", handler)
    services.outbox.start()
    await asyncio.sleep(0.1)  # the worker has polled once, and waits
    await enqueue(services)
    with anyio.fail_after(outbox_module._POLL_INTERVAL / 2):
        await done.wait()


async def test_stop_works_at_the_moment_of_a_poll(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_POLL_INTERVAL", 0.001)
    services.outbox.register("test", RecordingHandler())
    with anyio.fail_after(30):
        for number in range(100):
            services.outbox.start()
            await asyncio.sleep(number / 50_000)
            await services.outbox.stop()


async def test_a_worker_survives_errors(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_module, "_POLL_INTERVAL", 0.01)
    start_due, failures = Deliveries.start_due, iter([StorageUnavailable(), OSError("a full disk")])

    async def first_fails(self: Deliveries, lease: timedelta) -> Sequence[Delivery]:
        for failure in failures:
            raise failure
        return await start_due(self, lease)

    monkeypatch.setattr(Deliveries, "start_due", first_fails)
    done = asyncio.Event()

    async def handler(_: OutboxEntry, __: Payload) -> None:
        done.set()

    services.outbox.register("test", handler)
    await enqueue(services)
    services.outbox.start()
    with anyio.fail_after(10):
        await done.wait()
    assert "outbox not available: the database does not answer" in caplog.text
    assert "outbox worker iteration failed" in caplog.text


async def test_an_entry_that_cannot_be_deleted_is_delivered_again(
    clock: time_machine.Traveller, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = RecordingHandler()
    services.outbox.register("test", handler)
    key = await enqueue(services)
    with monkeypatch.context() as patch:

        async def away(*_: object) -> None:
            raise StorageUnavailable

        patch.setattr("authapi.storage.tables.outbox.OutboxTable.complete", away)
        with pytest.raises(StorageUnavailable):
            await services.outbox.run_due("test")
    clock.shift(services.outbox._lease)
    await services.outbox.drain()
    assert handler.ids == [key, key]
    assert rows(services) == [0]


async def test_a_process_with_another_secret_leaves_the_entry(
    clock: time_machine.Traveller, database_url: str
) -> None:
    async with open_services(database_url, secret="x" * 32) as right:
        key = await enqueue(right)
        wrong = Services.build(
            Settings(database_url=database_url, secret="y" * 32, mail_url="none:")  # type: ignore[arg-type]
        )
        handler = RecordingHandler()
        wrong.outbox.register("test", handler)
        assert await wrong.outbox.drain() == 1
        assert handler.ids == []
        assert (await entries(right))[key].error == "encrypted with another secret"
        right.outbox.register("test", handler)
        clock.shift(2 * SECOND)
        assert await right.outbox.drain() == 1
        assert handler.ids == [key]
        await wrong.stop()


async def test_a_payload_belongs_to_its_entry(services: Services) -> None:
    handler = RecordingHandler()
    services.outbox.register("test", handler)
    key = await enqueue(services)
    async with services.database.transaction() as store:
        entry = (await store.outbox.page(limit=1))[0]
        await store.outbox.complete(key)
        copied = replace(entry, id=new_id())
        await store.outbox.add(copied)
    await services.outbox.drain()
    assert handler.ids == []
    assert (await entries(services))[copied.id].error == "encrypted with another secret"


async def test_rewrap_reencrypts_entries(database_url: str) -> None:
    async with open_services(database_url, secret="x" * 32) as old:
        keys = [await enqueue(old) for _ in range(3)]
        async with old.database.transaction() as store:
            await store.outbox.reencrypt(keys[1], b"encrypted with an unknown secret")
        assert await old.keys.lifecycle.rewrap(b"y" * 32) == 2, "keys, not entries"
    async with open_services(database_url, secret="y" * 32) as new:
        handler = RecordingHandler()
        new.outbox.register("test", handler)
        await new.outbox.drain()
        assert handler.ids == [keys[0], keys[2]]
        assert rows(new, "error") == ["encrypted with another secret"]


async def test_retry_now_makes_entries_due(
    clock: time_machine.Traveller, services: Services
) -> None:
    failed, waiting, held = (
        await enqueue(services),
        await enqueue(services),
        await enqueue(services),
    )
    other = RecordingHandler(*[DeliveryFailed("away", permanent=True)])
    services.outbox.register("other", other)
    async with services.database.transaction() as store:
        beside = await services.outbox.enqueue(store, "other", "about", {})
    await services.outbox.drain()
    async with services.database.transaction() as store:
        found = {entry.id: entry for entry in await store.outbox.page("test", limit=9)}
        await store.outbox.mark_failed(found[failed], at=START, error="away")
        await store.outbox.reschedule(found[waiting], until=START + 900 * SECOND, error="away")
        await store.outbox.reschedule(found[held], until=START + 40 * SECOND, error="away")
    clock.shift(SECOND)
    assert await services.queues.retry("test") == 2
    handler = RecordingHandler()
    services.outbox.register("test", handler)
    await services.outbox.drain()
    assert sorted(handler.ids) == sorted([failed, waiting])
    left = await entries(services)
    assert left.keys() == {held, beside}, (
        "an entry that may be in progress, and one of another kind"
    )


async def test_an_entry_is_deleted_with_its_account(services: Services) -> None:
    alice = await store_user(services.database, a_user())
    await enqueue(services, user_id=alice.id)
    async with services.database.transaction() as store:
        await store.users.delete(alice.id)
    assert rows(services) == [0]
