"""Each receiver has delivery slots of its own, which are filled again as deliveries end."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
import sqlalchemy as sa

from authapi.domain.outbox import OutboxEntry
from authapi.errors import DeliveryFailed
from authapi.services import Services
from authapi.services.jobs import outbox as outbox_module
from authapi.services.jobs.outbox import Payload
from authapi.services.jobs.receivers import SLOTS, EntryFailed
from tests.services.jobs.test_outbox import open_services
from tests.storage.rows import sql


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    async with open_services(database_url) as found:
        yield found


class FakeReceivers:
    """A handler whose receivers hang, fail or accept their entries."""

    def __init__(self) -> None:
        self.hang: set[str] = set()
        self.fail: dict[str, Exception] = {}
        self.attempts: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.max_busy: Counter[str] = Counter()
        self.released = asyncio.Event()
        self._busy: Counter[str] = Counter()

    async def __call__(self, _: OutboxEntry, payload: Payload) -> None:
        to = payload["to"]
        self.attempts[to] += 1
        self._busy[to] += 1
        self.max_busy[to] = max(self.max_busy[to], self._busy[to])
        try:
            await asyncio.sleep(0)
            if to in self.hang:
                await self.released.wait()
            if failure := self.fail.get(to):
                raise failure
            self.done[to] += 1
        finally:
            self._busy[to] -= 1

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until `condition` holds: 10 s at most, far less than any timeout of the outbox."""
        with anyio.fail_after(10):
            while not condition():  # noqa: ASYNC110  # handlers of the outbox change it
                await asyncio.sleep(0.005)


async def enqueue(services: Services, **counts: int) -> None:
    """Queues that many entries for each receiver, all of the first before those of the second."""
    async with services.database.transaction() as store:
        for to, count in counts.items():
            for _ in range(count):
                await services.outbox.enqueue(store, "test", "about", {"to": to}, receiver=to)


def remaining(services: Services) -> Counter[str]:
    url = services.settings.resolved_database_url
    found = sql(url, "SELECT receiver, count(*) FROM authapi_outbox GROUP BY receiver")
    return Counter({str(receiver): int(number) for receiver, number in found})


async def test_a_receiver_that_hangs_delays_no_other(services: Services) -> None:
    handler = FakeReceivers()
    handler.hang = {"bad", "worse"}
    services.outbox.register("test", handler)
    services.outbox.start()
    await enqueue(services, bad=20, worse=20, good=60)
    await handler.until(lambda: handler.done["good"] == 60)
    assert handler.attempts == {"bad": SLOTS, "worse": SLOTS, "good": 60}
    assert handler.max_busy["good"] <= SLOTS
    handler.released.set()
    await handler.until(lambda: handler.done.total() == 100)
    assert handler.max_busy == {"bad": SLOTS, "worse": SLOTS, "good": handler.max_busy["good"]}


async def test_slots_are_filled_again_as_deliveries_end(services: Services) -> None:
    """The others do not wait for the slowest of those that started_at together."""
    started, slow, ended = 0, asyncio.Event(), asyncio.Event()

    async def handler(_: OutboxEntry, __: Payload) -> None:
        nonlocal started
        started += 1
        if started == 1:
            await slow.wait()
        if started == 30:
            ended.set()

    services.outbox.register("test", handler)
    services.outbox.start()
    await enqueue(services, one=30)
    with anyio.fail_after(10):
        await ended.wait()
    slow.set()
    await services.outbox.drain()
    assert remaining(services) == {}


async def test_kinds_do_not_wait_for_each_other(services: Services) -> None:
    handler, other = FakeReceivers(), FakeReceivers()
    handler.hang = {"bad"}
    services.outbox.register("test", handler)
    services.outbox.register("other", other)
    services.outbox.start()
    await enqueue(services, bad=30)
    async with services.database.transaction() as store:
        for _ in range(30):
            await services.outbox.enqueue(store, "other", "about", {"to": "bad"})
    await other.until(lambda: other.done["bad"] == 30)
    assert handler.done.total() == 0
    handler.released.set()


@pytest.mark.slow
@pytest.mark.parametrize("failure", [DeliveryFailed("503"), TimeoutError()])
async def test_a_failing_receiver_is_probed_by_one_entry_at_a_time(
    services: Services, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_POLL_INTERVAL", 0.01)
    handler = FakeReceivers()
    handler.fail = {"bad": failure}
    services.outbox.register("test", handler)
    await enqueue(services, bad=50, good=50)
    started_at = time.monotonic()
    services.outbox.start()
    await handler.until(lambda: handler.done["good"] == 50)
    await handler.until(lambda: handler.attempts["bad"] > SLOTS)
    assert time.monotonic() - started_at > 1.0, "the first probe follows after a second"
    assert handler.attempts["bad"] == SLOTS + 1
    del handler.fail["bad"]
    handler.max_busy["bad"] = 0
    await handler.until(lambda: handler.done["bad"] == 50)
    assert 1 < handler.max_busy["bad"] <= SLOTS, "all slots are in use again"


async def test_an_entry_that_fails_by_itself_does_not_slow_down_its_receiver(
    services: Services,
) -> None:
    handler = FakeReceivers()
    handler.fail = {"one": EntryFailed("mailbox busy")}
    services.outbox.register("test", handler)
    services.outbox.start()
    await enqueue(services, one=40)
    await handler.until(lambda: handler.attempts["one"] >= 40)


async def test_two_processes_claim_each_entry_of_each_receiver_once(database_url: str) -> None:
    done: Counter[UUID] = Counter()

    async def handler(entry: OutboxEntry, _: Payload) -> None:
        done[entry.id] += 1
        await asyncio.sleep(0)

    async with open_services(database_url) as one, open_services(database_url) as other:
        for found in (one, other):
            found.outbox.register("test", handler)
            found.outbox.start()
        await enqueue(one, first=40, second=40, third=20)
        with anyio.fail_after(20):
            while remaining(one):
                await asyncio.gather(one.outbox.run_due("test"), other.outbox.run_due("test"))
        assert (len(done), done.total()) == (100, 100)


async def test_stop_takes_two_seconds_at_most_with_many_hanging_deliveries(
    services: Services,
) -> None:
    handlers = [FakeReceivers() for _ in range(4)]
    for number, handler in enumerate(handlers):
        handler.hang = {"a", "b", "c"}
        services.outbox.register(f"test {number}", handler)
    services.outbox.start()
    async with services.database.transaction() as store:
        for number in range(4):
            for to in "abcabc":
                kind = f"test {number}"
                await services.outbox.enqueue(store, kind, "about", {"to": to}, receiver=to)
    await handlers[0].until(lambda: all(found.attempts.total() == 6 for found in handlers))
    started_at = time.monotonic()
    await services.outbox.stop()
    assert time.monotonic() - started_at < 2.0, "one second for all together, not for each"
    assert remaining(services).total() == 24, "they are due again after their lease"


async def test_a_process_claims_only_entries_for_free_slots(services: Services) -> None:
    handler = FakeReceivers()
    handler.hang = {f"r{number}" for number in range(8)}
    services.outbox.register("test", handler)
    services.outbox.start()
    await enqueue(services, **dict.fromkeys(sorted(handler.hang), 25))
    await handler.until(lambda: handler.attempts.total() == 8 * SLOTS)
    url = services.settings.resolved_database_url
    [(claimed,)] = sql(url, "SELECT count(*) FROM authapi_outbox WHERE attempts > 0")
    assert claimed == 8 * SLOTS
    await services.outbox.stop()


async def test_entries_without_a_receiver_are_delivered(services: Services) -> None:
    handler = FakeReceivers()
    services.outbox.register("test", handler)
    await enqueue(services, one=3)
    sql(services.settings.resolved_database_url, "UPDATE authapi_outbox SET receiver = ''")
    assert await services.outbox.drain() == 3
    assert handler.done["one"] == 3


async def test_due_receivers_returns_only_receivers_with_due_entries(services: Services) -> None:
    await enqueue(services, a=2, b=1, c=1, d=1)
    url = services.settings.resolved_database_url
    at = datetime.now(UTC)
    later = (at + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
    sql(
        url,
        f"UPDATE authapi_outbox SET due_at = '{later}' WHERE receiver = 'b'",
        f"UPDATE authapi_outbox SET failed_at = '{later}' WHERE receiver = 'c'",
    )
    async with services.database.read() as store:
        assert await store.outbox.due_receivers("test", now=at + timedelta(seconds=1)) == ["a", "d"]
        assert await store.outbox.due_receivers("other", now=at) == []


async def test_deliveries_that_end_together_leave_connections_to_requests(
    services: Services,
) -> None:
    """Each delivery stores its result; the pool has ten connections."""
    handler = FakeReceivers()
    names = [f"r{number}" for number in range(12)]
    handler.hang = set(names)
    handler.fail = dict.fromkeys(names[:6], DeliveryFailed("503"))
    services.outbox._handlers.clear()  # each other kind has a worker, with claims of its own
    services.outbox.register("test", handler)
    services.outbox.start()
    await enqueue(services, **dict.fromkeys(names, SLOTS))
    await handler.until(lambda: handler.attempts.total() == 12 * SLOTS)
    handler.released.set()
    max_connections = 0
    with anyio.fail_after(10):
        while not services.outbox._deliveries["test"].is_idle:
            max_connections = max(max_connections, services.database.connections_in_use)
            await asyncio.sleep(0)
    assert 0 < max_connections <= 3, "one success, one failure and one claim at a time"
    await services.outbox.stop()
    assert remaining(services) == dict.fromkeys(names[:6], SLOTS)


MANY = 20_000


# The query plan depends on the rows that were there, so use a database of its own.
@pytest.mark.parametrize("has_statistics", [True, False])
async def test_the_queue_of_one_receiver_does_not_slow_down_others_on_postgresql(
    fresh_postgres_url: str, has_statistics: bool
) -> None:
    sql(
        fresh_postgres_url,
        "ALTER TABLE authapi_outbox SET (autovacuum_enabled = false)",  # it would analyse the table
        "INSERT INTO authapi_outbox (id, kind, purpose, payload, created_at, due_at, expires_at,"
        " attempts, failed_at, receiver) SELECT gen_random_uuid(), 'webhook', 'x', '', now(),"
        " now() - n * interval '1 second', now(), 0, CASE WHEN mod(n, 3) = 1 THEN now() END,"
        " CASE WHEN mod(n, 1000) = 0 THEN 'good' WHEN mod(n, 3) = 1 THEN 'gone' ELSE 'bad' END"
        f" FROM generate_series(1, {MANY}) AS n",
        *(["ANALYZE authapi_outbox"] if has_statistics else []),
    )
    for statement in await _statements(fresh_postgres_url):
        [(plan,)] = sql(fresh_postgres_url, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        found = plan if isinstance(plan, list) else json.loads(plan)
        nodes = list(_nodes(found[0]["Plan"]))
        assert "Sort" not in {node["Node Type"] for node in nodes}, statement
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes) < 100, statement
        assert "ix_authapi_outbox_kind_failed_at_receiver_due_at_id" in json.dumps(found), statement


async def test_the_queue_of_one_receiver_does_not_slow_down_others_on_sqlite(
    sqlite_url: str,
) -> None:
    for statement in await _statements(sqlite_url):
        plan = [row[3] for row in sql(sqlite_url, f"EXPLAIN QUERY PLAN {statement}")]
        steps = [step for step in plan if "authapi_outbox" in step]
        assert steps
        for step in steps:
            assert step.startswith("SEARCH authapi_outbox USING"), plan
            index = "ix_authapi_outbox_kind_failed_at_receiver_due_at_id"
            assert f"{index} (kind=? AND failed_at=?" in step, plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


async def _statements(url: str) -> list[str]:
    """Returns the statements that find and claim due entries, with literal values."""
    seen: list[str] = []

    def note(_: object, clause: Any, multi: Any, params: Any, __: object) -> None:
        if isinstance(clause, sa.Select):
            bound = clause.params(**params) if params else clause
            written_out = {"literal_binds": True}
            seen.append(str(bound.compile(dialect=dialect, compile_kwargs=written_out)))

    async with open_services(url) as services:
        dialect = services.database.engine.dialect
        sa.event.listen(services.database.engine.sync_engine, "before_execute", note)
        at = datetime.now(UTC)
        async with services.database.transaction() as store:
            await store.outbox.due_receivers("webhook", now=at)
            await store.outbox.claim("webhook", "good", now=at, until=at, limit=5)
        sa.event.remove(services.database.engine.sync_engine, "before_execute", note)
    assert len(seen) == 2
    return seen


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
