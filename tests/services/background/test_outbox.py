"""The outbox: what is committed is done at least once, by one at a time, whatever goes wrong."""

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
from authapi.errors import DeliveryFailed, StorageUnavailable
from authapi.services import Services
from authapi.services.background import outbox as module
from authapi.services.background.deliveries import Deliveries, Delivery
from authapi.services.background.outbox import Payload
from authapi.settings import Settings
from authapi.storage.tables.outbox import Entry
from tests.storage.rows import a_user, sql, store_user

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@asynccontextmanager
async def opened(url: str, **changes: Any) -> AsyncIterator[Services]:
    """One process on the database, whose outbox works when it is told to."""
    settings = Settings(database_url=url, mail_url="none:", **changes)  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.open()
    yield services
    await services.stop()


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    async with opened(database_url) as found:
        yield found


@pytest.fixture
async def clock() -> AsyncIterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as found:
        yield found


Work = Callable[[Entry, Payload], Awaitable[None]]


class Done:
    """A handler that remembers what it did, and fails as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.ids: list[UUID] = []
        self.payloads: list[Payload] = []
        self._failures = list(failures)

    async def __call__(self, entry: Entry, payload: Payload) -> None:
        self.ids.append(entry.id)
        self.payloads.append(payload)
        if self._failures:
            raise self._failures.pop(0)


async def put(services: Services, **about: Any) -> UUID:
    async with services.database.transaction() as store:
        return await services.outbox.put(store, "test", "about", {"n": 1}, **about)


def rows(services: Services, what: str = "count(*)") -> list[Any]:
    url = services.settings.resolved_database_url
    return [
        row[0]
        for row in sql(url, f"SELECT {what} FROM (SELECT * FROM outbox ORDER BY id) AS entries")
    ]


async def test_done_once_and_gone(services: Services) -> None:
    handler = Done()
    services.outbox.on("test", handler)
    key = await put(services)
    assert await services.outbox.work("test") == 1
    assert handler.ids == [key]
    assert handler.payloads == [{"n": 1}]
    assert rows(services) == [0]
    assert await services.outbox.work("test") == 0


async def test_what_is_taken_back_is_never_done(services: Services) -> None:
    handler = Done()
    services.outbox.on("test", handler)

    async def taken_back() -> None:
        async with services.database.transaction() as store:
            await services.outbox.put(store, "test", "about", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await taken_back()
    assert await services.outbox.settle() == 0
    assert handler.ids == []


async def entries(services: Services) -> dict[UUID, Entry]:
    async with services.database.read() as store:
        return {entry.id: entry for entry in await store.outbox.page(limit=100)}


async def test_it_is_tried_again_later_and_later(
    clock: time_machine.Traveller, services: Services
) -> None:
    handler = Done(*[DeliveryFailed("away")] * 14)
    services.outbox.on("test", handler)
    key = await put(services)
    pauses = []
    while await services.outbox.settle():
        if entry := (await entries(services)).get(key):
            assert (entry.error, entry.attempts) == ("away", len(handler.ids))
            pauses.append(int((entry.due_at - datetime.now(UTC)).total_seconds()))
            clock.shift(entry.due_at - datetime.now(UTC) - SECOND / 1000)
            assert await services.outbox.settle() == 0, "not before its time"
            clock.shift(SECOND / 1000)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
    assert handler.ids == [key] * 15, "the same id each time"


async def test_what_can_never_arrive_is_given_up_at_once_and_kept_to_be_seen(
    clock: time_machine.Traveller, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Done(DeliveryFailed("no such mailbox", permanent=True))
    services.outbox.on("test", handler)
    key = await put(services)
    await services.outbox.settle()
    clock.shift(DAY)
    assert await services.outbox.settle() == 0
    entry = (await entries(services))[key]
    assert entry.error == "no such mailbox"
    assert entry.failed_at == START
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR
    ] == ["given up: no such mailbox"]
    assert await services.outbox.prune() == 0
    clock.shift(timedelta(days=6, seconds=1))
    assert await services.outbox.prune() == 1
    assert await entries(services) == {}


async def test_after_its_lifetime_it_is_given_up_with_what_went_wrong(
    clock: time_machine.Traveller, services: Services
) -> None:
    handler = Done(*[DeliveryFailed("away")] * 9)
    services.outbox.on("test", handler)
    key = await put(services, lifetime=timedelta(seconds=5))
    never = await put(services, lifetime=timedelta(seconds=5))
    async with services.database.transaction() as store:
        await store.outbox.done(never)
    await services.outbox.settle()
    clock.shift(timedelta(seconds=6))
    later = await put(services, lifetime=timedelta(seconds=-1))
    await services.outbox.settle()
    found = await entries(services)
    assert found[key].error == "away"
    assert found[later].error == "its time was over"
    assert found[key].failed_at == found[later].failed_at == datetime.now(UTC)
    assert handler.ids == [key], "what is over is not tried"


async def test_no_lifetime_is_longer_than_that_of_mail(
    clock: time_machine.Traveller, services: Services
) -> None:
    key = await put(services, lifetime=timedelta(days=30))
    assert (await entries(services))[key].expires_at == START + services.settings.mail_lifetime


async def test_what_nobody_does_any_more_is_pruned(
    clock: time_machine.Traveller, services: Services
) -> None:
    await put(services)
    clock.shift(timedelta(days=8))
    assert await services.outbox.prune() == 0
    clock.shift(timedelta(days=2))
    assert await services.outbox.prune() == 1


async def test_an_error_that_nobody_thought_of_tells_only_its_name(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    services.outbox.on("test", Done(ValueError("alice@example.com hunter2")))
    key = await put(services)
    await services.outbox.settle()
    assert (await entries(services))[key].error == "ValueError"
    assert "alice" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_one_that_fails_keeps_none_of_the_others(services: Services) -> None:
    bad = await put(services)
    good = [await put(services) for _ in range(7)]
    done: list[UUID] = []

    async def handler(entry: Entry, _: Payload) -> None:
        if entry.id == bad:
            raise DeliveryFailed("away")
        done.append(entry.id)

    services.outbox.on("test", handler)
    await services.outbox.settle()
    assert sorted(done) == sorted(good)
    assert rows(services, "error") == ["away"]


async def test_a_handler_that_hangs_is_given_up_for_now(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.outbox, "_patience", 0.01)

    async def hangs(_: Entry, __: Payload) -> None:
        await asyncio.Event().wait()

    services.outbox.on("test", hangs)
    await put(services)
    assert await services.outbox.work("test") == 1
    assert rows(services, "error") == ["TimeoutError"]


async def test_two_processes_do_each_entry_once(database_url: str) -> None:
    done: Counter[UUID] = Counter()
    workers: Counter[str] = Counter()

    def handler(name: str) -> Work:
        async def work(entry: Entry, _: Payload) -> None:
            done[entry.id] += 1
            workers[name] += 1
            await asyncio.sleep(0)

        return work

    async with opened(database_url) as one, opened(database_url) as other:
        one.outbox.on("test", handler("one"))
        other.outbox.on("test", handler("other"))
        keys = set()
        async with one.database.transaction() as store:
            for _ in range(100):
                keys.add(await one.outbox.put(store, "test", "about", {}))
        while rows(one) != [0]:
            await asyncio.gather(*(found.outbox.work("test") for found in (one, other, one, other)))
        assert done == dict.fromkeys(keys, 1)
        assert set(workers) == {"one", "other"}


async def test_on_postgres_nobody_waits_for_what_another_is_claiming(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        first, second = await put(one), await put(one)
        at = datetime.now(UTC) + SECOND
        async with one.database.transaction() as store:
            (mine,) = await store.outbox.claim("test", now=at, until=at + DAY, limit=1)
            with anyio.fail_after(2):
                async with other.database.transaction() as beside:
                    (theirs,) = await beside.outbox.claim("test", now=at, until=at + DAY, limit=9)
        assert {mine.id, theirs.id} == {first, second}


async def test_what_a_process_died_with_comes_back(
    clock: time_machine.Traveller, database_url: str
) -> None:
    async with opened(database_url) as dying, opened(database_url) as other:
        handler = Done()
        other.outbox.on("test", handler)
        key = await put(dying)
        async with dying.database.transaction() as store:
            lease = dying.outbox._lease
            at = datetime.now(UTC)
            await store.outbox.claim("test", now=at, until=at + lease, limit=5)
        # ... and it dies here, between the claim and the end.
        assert await other.outbox.settle() == 0
        clock.shift(lease)
        assert await other.outbox.settle() == 1
        assert handler.ids == [key]


async def test_a_process_that_is_stopped_in_the_middle_leaves_it_to_others(
    database_url: str,
) -> None:
    async with opened(database_url) as stopping, opened(database_url) as other:
        begun = asyncio.Event()

        async def hangs(_: Entry, __: Payload) -> None:
            begun.set()
            await asyncio.Event().wait()

        stopping.outbox.on("test", hangs)
        stopping.outbox.start()
        key = await put(stopping)
        with anyio.fail_after(10):
            await begun.wait()
            await stopping.outbox.stop()
        handler = Done()
        other.outbox.on("test", handler)
        assert await other.outbox.settle() == 0, "it may have arrived: not before the lease is over"
        with time_machine.travel(datetime.now(UTC) + stopping.outbox._lease + SECOND):
            assert await other.outbox.settle() == 1
        assert handler.ids == [key]


async def test_what_is_nearly_done_when_a_process_stops_is_done(services: Services) -> None:
    begun = asyncio.Event()

    async def slow(_: Entry, __: Payload) -> None:
        begun.set()
        await asyncio.sleep(0.1)

    services.outbox.on("test", slow)
    services.outbox.start()
    await put(services)
    with anyio.fail_after(10):
        await begun.wait()
        await services.outbox.stop()
    assert rows(services) == [0]


async def test_whoever_was_slow_says_nothing_about_what_another_has(
    clock: time_machine.Traveller, database_url: str
) -> None:
    async with opened(database_url) as slow, opened(database_url) as other:
        key = await put(slow)

        async def overtaken(_: Entry, __: Payload) -> None:
            clock.shift(slow.outbox._lease)
            async with other.database.transaction() as store:
                at = datetime.now(UTC)
                await store.outbox.claim("test", now=at, until=at + DAY, limit=5)
            raise DeliveryFailed("too late", permanent=True)

        slow.outbox.on("test", overtaken)
        await slow.outbox.work("test")
        entry = (await entries(slow))[key]
        assert entry.failed_at is None
        assert entry.error is None
        assert entry.attempts == 2


async def test_what_is_written_is_done_at_once_by_the_background(services: Services) -> None:
    done = asyncio.Event()

    async def handler(_: Entry, __: Payload) -> None:
        done.set()

    services.outbox.on("test", handler)
    services.outbox.start()
    await asyncio.sleep(0.1)  # it has looked, and waits
    await put(services)
    with anyio.fail_after(module._POLL / 2):
        await done.wait()


async def test_it_ends_also_in_the_moment_in_which_it_looks_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL", 0.001)
    services.outbox.on("test", Done())
    with anyio.fail_after(30):
        for number in range(100):
            services.outbox.start()
            await asyncio.sleep(number / 50_000)
            await services.outbox.stop()


async def test_the_background_outlives_what_it_cannot_do(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_POLL", 0.01)
    beginning, failures = Deliveries.begin, iter([StorageUnavailable(), OSError("a full disk")])

    async def first_fails(self: Deliveries, lease: timedelta) -> Sequence[Delivery]:
        for failure in failures:
            raise failure
        return await beginning(self, lease)

    monkeypatch.setattr(Deliveries, "begin", first_fails)
    done = asyncio.Event()

    async def handler(_: Entry, __: Payload) -> None:
        done.set()

    services.outbox.on("test", handler)
    await put(services)
    services.outbox.start()
    with anyio.fail_after(10):
        await done.wait()
    assert "the outbox cannot be read or written" in caplog.text
    assert "the outbox was not worked through" in caplog.text


async def test_what_was_done_and_could_not_be_removed_comes_back(
    clock: time_machine.Traveller, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Done()
    services.outbox.on("test", handler)
    key = await put(services)
    with monkeypatch.context() as patch:

        async def away(*_: object) -> None:
            raise StorageUnavailable

        patch.setattr("authapi.storage.tables.outbox.OutboxTable.done", away)
        with pytest.raises(StorageUnavailable):
            await services.outbox.work("test")
    clock.shift(services.outbox._lease)
    await services.outbox.settle()
    assert handler.ids == [key, key]
    assert rows(services) == [0]


async def test_another_secret_cannot_read_it_and_does_not_lose_it(
    clock: time_machine.Traveller, database_url: str
) -> None:
    async with opened(database_url, secret="x" * 32) as right:
        key = await put(right)
        wrong = Services.build(
            Settings(database_url=database_url, secret="y" * 32, mail_url="none:")  # type: ignore[arg-type]
        )
        handler = Done()
        wrong.outbox.on("test", handler)
        assert await wrong.outbox.settle() == 1
        assert handler.ids == []
        assert (await entries(right))[key].error == "sealed under another secret"
        right.outbox.on("test", handler)
        clock.shift(2 * SECOND)
        assert await right.outbox.settle() == 1
        assert handler.ids == [key]
        await wrong.stop()


async def test_a_payload_belongs_to_its_entry(services: Services) -> None:
    handler = Done()
    services.outbox.on("test", handler)
    key = await put(services)
    async with services.database.transaction() as store:
        entry = (await store.outbox.page(limit=1))[0]
        await store.outbox.done(key)
        copied = replace(entry, id=new_id())
        await store.outbox.add(copied)
    await services.outbox.settle()
    assert handler.ids == []
    assert (await entries(services))[copied.id].error == "sealed under another secret"


async def test_with_another_secret_it_is_sealed_anew(database_url: str) -> None:
    async with opened(database_url, secret="x" * 32) as old:
        keys = [await put(old) for _ in range(3)]
        async with old.database.transaction() as store:
            await store.outbox.reseal(keys[1], b"sealed by nobody knows whom")
        assert await old.keys.lifecycle.rewrap(b"y" * 32) == 2, "keys, not entries"
    async with opened(database_url, secret="y" * 32) as new:
        handler = Done()
        new.outbox.on("test", handler)
        await new.outbox.settle()
        assert handler.ids == [keys[0], keys[2]]
        assert rows(new, "error") == ["sealed under another secret"]


async def test_it_can_be_tried_again_at_once(
    clock: time_machine.Traveller, services: Services
) -> None:
    given_up, waiting, held = await put(services), await put(services), await put(services)
    other = Done(*[DeliveryFailed("away", permanent=True)])
    services.outbox.on("other", other)
    async with services.database.transaction() as store:
        beside = await services.outbox.put(store, "other", "about", {})
    await services.outbox.settle()
    async with services.database.transaction() as store:
        found = {entry.id: entry for entry in await store.outbox.page("test", limit=9)}
        await store.outbox.give_up(found[given_up], at=START, error="away")
        await store.outbox.put_off(found[waiting], until=START + 900 * SECOND, error="away")
        await store.outbox.put_off(found[held], until=START + 40 * SECOND, error="away")
    clock.shift(SECOND)
    assert await services.outbox.retry("test") == 2
    handler = Done()
    services.outbox.on("test", handler)
    await services.outbox.settle()
    assert sorted(handler.ids) == sorted([given_up, waiting])
    left = await entries(services)
    assert left.keys() == {held, beside}, "somebody may be at it; and other kinds stay"


async def test_an_entry_goes_with_its_account(services: Services) -> None:
    alice = await store_user(services.database, a_user())
    await put(services, user_id=alice.id)
    async with services.database.transaction() as store:
        await store.users.delete(alice.id)
    assert rows(services) == [0]
