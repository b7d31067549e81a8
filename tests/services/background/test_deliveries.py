"""Each receiver has a share of the deliveries of its own, refilled as they end."""

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

from authapi.errors import DeliveryFailed
from authapi.services import Services
from authapi.services.background import outbox as module
from authapi.services.background.outbox import Payload
from authapi.services.background.receivers import SHARE, EntryFailed
from authapi.storage.tables.outbox import Entry
from tests.services.background.test_outbox import opened
from tests.storage.rows import sql


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    async with opened(database_url) as found:
        yield found


class Receivers:
    """A handler with receivers that hang, fail or take what they get."""

    def __init__(self) -> None:
        self.hang: set[str] = set()
        self.fail: dict[str, Exception] = {}
        self.asked: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.released = asyncio.Event()
        self._busy: Counter[str] = Counter()

    async def __call__(self, _: Entry, payload: Payload) -> None:
        to = payload["to"]
        self.asked[to] += 1
        self._busy[to] += 1
        self.most[to] = max(self.most[to], self._busy[to])
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
        """Wait until `condition` holds: seconds, and far less than any patience of the outbox."""
        with anyio.fail_after(10):
            while not condition():  # noqa: ASYNC110  # handlers of the outbox change it
                await asyncio.sleep(0.005)


async def put(services: Services, **counts: int) -> None:
    """So many entries for each receiver, all of the first before those of the second."""
    async with services.database.transaction() as store:
        for to, count in counts.items():
            for _ in range(count):
                await services.outbox.put(store, "test", "about", {"to": to}, receiver=to)


def left(services: Services) -> Counter[str]:
    url = services.settings.resolved_database_url
    found = sql(url, "SELECT receiver, count(*) FROM outbox GROUP BY receiver")
    return Counter({str(receiver): int(number) for receiver, number in found})


async def test_a_receiver_that_hangs_delays_no_other(services: Services) -> None:
    handler = Receivers()
    handler.hang = {"bad", "worse"}
    services.outbox.on("test", handler)
    services.outbox.start()
    await put(services, bad=20, worse=20, good=60)
    await handler.until(lambda: handler.done["good"] == 60)
    assert handler.asked == {"bad": SHARE, "worse": SHARE, "good": 60}
    assert handler.most["good"] <= SHARE
    handler.released.set()
    await handler.until(lambda: handler.done.total() == 100)
    assert handler.most == {"bad": SHARE, "worse": SHARE, "good": handler.most["good"]}


async def test_a_share_is_refilled_as_deliveries_end(services: Services) -> None:
    """The others do not wait for the slowest of those that began together."""
    begun, slow, ended = 0, asyncio.Event(), asyncio.Event()

    async def handler(_: Entry, __: Payload) -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            await slow.wait()
        if begun == 30:
            ended.set()

    services.outbox.on("test", handler)
    services.outbox.start()
    await put(services, one=30)
    with anyio.fail_after(10):
        await ended.wait()
    slow.set()
    await services.outbox.settle()
    assert left(services) == {}


async def test_kinds_do_not_wait_for_each_other(services: Services) -> None:
    handler, other = Receivers(), Receivers()
    handler.hang = {"bad"}
    services.outbox.on("test", handler)
    services.outbox.on("other", other)
    services.outbox.start()
    await put(services, bad=30)
    async with services.database.transaction() as store:
        for _ in range(30):
            await services.outbox.put(store, "other", "about", {"to": "bad"})
    await other.until(lambda: other.done["bad"] == 30)
    assert handler.done.total() == 0
    handler.released.set()


@pytest.mark.slow
@pytest.mark.parametrize("failure", [DeliveryFailed("503"), TimeoutError()])
async def test_one_that_keeps_failing_is_probed_by_one_entry_at_a_time(
    services: Services, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL", 0.01)
    handler = Receivers()
    handler.fail = {"bad": failure}
    services.outbox.on("test", handler)
    await put(services, bad=50, good=50)
    began = time.monotonic()
    services.outbox.start()
    await handler.until(lambda: handler.done["good"] == 50)
    await handler.until(lambda: handler.asked["bad"] > SHARE)
    assert time.monotonic() - began > 1.0, "the first probe follows after a second"
    assert handler.asked["bad"] == SHARE + 1
    del handler.fail["bad"]
    handler.most["bad"] = 0
    await handler.until(lambda: handler.done["bad"] == 50)
    assert 1 < handler.most["bad"] <= SHARE, "it has its share again"


async def test_what_is_the_fault_of_an_entry_slows_its_receiver_down_no_more_than_success(
    services: Services,
) -> None:
    handler = Receivers()
    handler.fail = {"one": EntryFailed("mailbox busy")}
    services.outbox.on("test", handler)
    services.outbox.start()
    await put(services, one=40)
    await handler.until(lambda: handler.asked["one"] >= 40)


async def test_two_processes_claim_each_entry_of_each_receiver_once(database_url: str) -> None:
    done: Counter[UUID] = Counter()

    async def handler(entry: Entry, _: Payload) -> None:
        done[entry.id] += 1
        await asyncio.sleep(0)

    async with opened(database_url) as one, opened(database_url) as other:
        for found in (one, other):
            found.outbox.on("test", handler)
            found.outbox.start()
        await put(one, first=40, second=40, third=20)
        with anyio.fail_after(20):
            while left(one):
                await asyncio.gather(one.outbox.work("test"), other.outbox.work("test"))
        assert (len(done), done.total()) == (100, 100)


async def test_stopping_is_prompt_however_many_hang(services: Services) -> None:
    handlers = [Receivers() for _ in range(4)]
    for number, handler in enumerate(handlers):
        handler.hang = {"a", "b", "c"}
        services.outbox.on(f"test {number}", handler)
    services.outbox.start()
    async with services.database.transaction() as store:
        for number in range(4):
            for to in "abcabc":
                kind = f"test {number}"
                await services.outbox.put(store, kind, "about", {"to": to}, receiver=to)
    await handlers[0].until(lambda: all(found.asked.total() == 6 for found in handlers))
    began = time.monotonic()
    await services.outbox.stop()
    assert time.monotonic() - began < 2.0, "a second for all of them, not for each"
    assert left(services).total() == 24, "they come back after their lease"


async def test_a_process_has_no_more_in_memory_than_the_shares(services: Services) -> None:
    handler = Receivers()
    handler.hang = {f"r{number}" for number in range(8)}
    services.outbox.on("test", handler)
    services.outbox.start()
    await put(services, **dict.fromkeys(sorted(handler.hang), 25))
    await handler.until(lambda: handler.asked.total() == 8 * SHARE)
    url = services.settings.resolved_database_url
    [(claimed,)] = sql(url, "SELECT count(*) FROM outbox WHERE attempts > 0")
    assert claimed == 8 * SHARE
    await services.outbox.stop()


async def test_entries_from_before_there_were_receivers_are_delivered(services: Services) -> None:
    handler = Receivers()
    services.outbox.on("test", handler)
    await put(services, one=3)
    sql(services.settings.resolved_database_url, "UPDATE outbox SET receiver = ''")
    assert await services.outbox.settle() == 3
    assert handler.done["one"] == 3


async def test_only_receivers_with_something_due_are_found(services: Services) -> None:
    await put(services, a=2, b=1, c=1, d=1)
    url = services.settings.resolved_database_url
    at = datetime.now(UTC)
    later = (at + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
    sql(
        url,
        f"UPDATE outbox SET due_at = '{later}' WHERE receiver = 'b'",
        f"UPDATE outbox SET failed_at = '{later}' WHERE receiver = 'c'",
    )
    async with services.database.read() as store:
        assert await store.outbox.due_receivers("test", now=at + timedelta(seconds=1)) == ["a", "d"]
        assert await store.outbox.due_receivers("other", now=at) == []


async def test_deliveries_that_end_together_leave_connections_to_requests(
    services: Services,
) -> None:
    """Each writes what came of it; the pool has ten connections."""
    handler = Receivers()
    names = [f"r{number}" for number in range(12)]
    handler.hang = set(names)
    handler.fail = dict.fromkeys(names[:6], DeliveryFailed("503"))
    services.outbox.on("test", handler)
    services.outbox.start()
    await put(services, **dict.fromkeys(names, SHARE))
    await handler.until(lambda: handler.asked.total() == 12 * SHARE)
    handler.released.set()
    most = 0
    with anyio.fail_after(10):
        while not services.outbox._deliveries["test"].is_idle:
            most = max(most, services.database.connections_in_use)
            await asyncio.sleep(0)
    assert 0 < most <= 3, "one that delivered, one that failed, one that claims"
    await services.outbox.stop()
    assert left(services) == dict.fromkeys(names[:6], SHARE)


MANY = 20_000


# How PostgreSQL gets at rows depends on how many there were: other tests have had none of these.
@pytest.mark.parametrize("has_statistics", [True, False])
async def test_what_a_receiver_has_queued_costs_the_others_nothing_on_postgresql(
    fresh_postgres_url: str, has_statistics: bool
) -> None:
    sql(
        fresh_postgres_url,
        "ALTER TABLE outbox SET (autovacuum_enabled = false)",  # it would analyse the table
        "INSERT INTO outbox (id, kind, purpose, payload, created_at, due_at, expires_at, attempts,"
        " failed_at, receiver) SELECT gen_random_uuid(), 'webhook', 'x', '', now(),"
        " now() - n * interval '1 second', now(), 0, CASE WHEN mod(n, 3) = 1 THEN now() END,"
        " CASE WHEN mod(n, 1000) = 0 THEN 'good' WHEN mod(n, 3) = 1 THEN 'gone' ELSE 'bad' END"
        f" FROM generate_series(1, {MANY}) AS n",
        *(["ANALYZE outbox"] if has_statistics else []),
    )
    for statement in await _statements(fresh_postgres_url):
        [(plan,)] = sql(fresh_postgres_url, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        found = plan if isinstance(plan, list) else json.loads(plan)
        nodes = list(_nodes(found[0]["Plan"]))
        assert "Sort" not in {node["Node Type"] for node in nodes}, statement
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes) < 100, statement
        assert "ix_outbox_kind_failed_at_receiver_due_at_id" in json.dumps(found), statement


async def test_what_a_receiver_has_queued_costs_the_others_nothing_on_sqlite(
    sqlite_url: str,
) -> None:
    for statement in await _statements(sqlite_url):
        plan = [row[3] for row in sql(sqlite_url, f"EXPLAIN QUERY PLAN {statement}")]
        steps = [step for step in plan if "outbox" in step]
        assert steps
        for step in steps:
            assert step.startswith("SEARCH outbox USING"), plan
            index = "ix_outbox_kind_failed_at_receiver_due_at_id"
            assert f"{index} (kind=? AND failed_at=?" in step, plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


async def _statements(url: str) -> list[str]:
    """What is asked of the table to find and to claim what is due, with its values written out."""
    seen: list[str] = []

    def note(_: object, clause: Any, multi: Any, params: Any, __: object) -> None:
        if isinstance(clause, sa.Select):
            bound = clause.params(**params) if params else clause
            written_out = {"literal_binds": True}
            seen.append(str(bound.compile(dialect=dialect, compile_kwargs=written_out)))

    async with opened(url) as services:
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
