"""45 and 46: the schema of the next release beside processes of this and of an earlier one."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from authapi.storage import migrations
from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.faults.harness.load import Load, load
from tests.faults.harness.polling import until, until_answered
from tests.faults.harness.releases import next_release, past_release
from tests.servers.postgres import PostgresCluster

pytestmark = pytest.mark.faults

_BEGINNING = "80c6c6001a89e0b76256c2a58af9217b35675345"
"""Its migrations end at 0005. It starts with its own revision only, and runs beside later ones."""
_BOUND = 2.0
"""Seconds for which an upgrade may delay a request."""
_WAITS = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waits.waitstart)), 0)::float
    FROM pg_locks waits JOIN pg_stat_activity s USING (pid)
    WHERE NOT waits.granted AND s.datname = current_database()
    AND s.query !~ '^(ALTER|CREATE|DROP|SELECT pg_try)'
"""


@asynccontextmanager
async def longest_wait(url: str) -> AsyncIterator[Callable[[], float]]:
    """Measures how long statements of services wait for locks, as PostgreSQL sees it."""
    found, is_over = [0.0], asyncio.Event()

    async def watch() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while not is_over.is_set():
                row = await (await connection.execute(_WAITS)).fetchone()
                found.append(0.0 if row is None else row[0])
                await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield lambda: max(found)
    finally:
        is_over.set()
        await watching


def slowest(traffic: Load, begun: float, ended: float) -> float:
    """Returns the longest duration of a request that was on its way between the two moments."""
    return max(
        (
            seconds
            for started_at, seconds, _ in traffic.ledger.responses
            if started_at < ended and started_at + seconds > begun
        ),
        default=0.0,
    )


async def test_45_releases_beside_each_other(
    cluster: PostgresCluster,
    new_service: NewService,
    report: Report,
    chance: random.Random,
    tmp_path: Path,
) -> None:
    url = cluster.create_database(f"upgrades_{chance.randrange(10**9)}")
    past = past_release(_BEGINNING, tmp_path / "past")
    following = tmp_path / "next"
    additive, removing = next_release(following)
    this, future = new_service(url), new_service(url, {"PYTHONPATH": str(following / "src")})
    # An archive of the sources has no history: then an earlier process is one of this release.
    old = this if past is None else new_service(url, {"PYTHONPATH": str(past / "src")})
    await asyncio.to_thread(old.run, "db", "upgrade")
    ports = [(await asyncio.to_thread(old.start)).port]
    await asyncio.to_thread(this.run, "db", "upgrade")
    ports.append((await asyncio.to_thread(this.start)).port)
    async with longest_wait(url) as waited, load(ports, chance) as traffic:
        await traffic.ledger.wait_for_revocations(3)
        # A command that changes nothing takes the same cores from the services.
        await asyncio.to_thread(future.run, "db", "current")
        begun = time.monotonic()
        usual = slowest(traffic, 0, begun)
        await asyncio.to_thread(future.run, "db", "upgrade", additive)
        longest = slowest(traffic, begun, time.monotonic())
        assert migrations.current(url) == additive
        for port in ports:  # each answers with the new schema
            async with Client(port) as client:
                assert (await client.get("/health/ready")).status == 200
        restarted = await asyncio.to_thread(this.start)
        traffic.clients[1].port = restarted.port
        await traffic.clients[1].close()
        await traffic.ledger.wait_for_revocations(3)
    ledger = traffic.ledger
    async with Client(restarted.port) as client:
        problems = await check(client, ledger.accounts) + check_rows(url)
    unavailable = ledger.statuses[503]
    if past is not None:  # it compares for equality, as every release before the range
        refused = old.command("serve", "--port", "0")
        assert await asyncio.to_thread(refused.wait, 60) != 0
        assert f"is at {additive}, this version needs 0005" in refused.output()

    await asyncio.to_thread(future.run, "db", "upgrade")
    assert migrations.current(url) == removing
    async with Client(restarted.port) as client:
        await until_answered(lambda: client.get("/health/ready"), status=503, within=10)
    refused = this.command("serve", "--port", "0")
    assert await asyncio.to_thread(refused.wait, 60) != 0
    sentence = f"is at {removing}, which code before {additive[:4]} cannot use"
    assert refused.output().count(sentence) == 1
    await asyncio.to_thread(future.start)
    report(
        f"{'80c6c600' if past else 'this release'} and this one beside {additive}: "
        f"{ledger.statuses.total()} requests, 503: {unavailable}, other 5xx "
        f"{len(ledger.unexpected)}, no response {ledger.lost}; statements waited "
        f"{waited():.2f} s at most, requests took {longest:.2f} s, before {usual:.2f} s; "
        f"{ledger.summary()}, lost or half done {len(problems)}"
    )
    assert (problems, traffic.violations, ledger.unexpected, ledger.lost) == ([], [], [], 0)
    assert waited() < _BOUND
    assert longest < usual + _BOUND


async def test_46_upgrade_beside_a_dump(
    postgres_here: str,
    new_service: NewService,
    report: Report,
    chance: random.Random,
    tmp_path: Path,
) -> None:
    additive, _ = next_release(tmp_path / "next")
    service = new_service(postgres_here)
    future = new_service(postgres_here, {"PYTHONPATH": str(tmp_path / "next" / "src")})
    running = await asyncio.to_thread(service.start)
    async with (
        await psycopg.AsyncConnection.connect(postgres_here) as dump,
        longest_wait(postgres_here) as waited,
        load([running.port], chance) as traffic,
    ):
        await traffic.ledger.wait_for_revocations(3)
        await dump.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        tables = ("users", "sessions", "events")
        for table in tables:  # as pg_dump does
            await dump.execute(f"LOCK TABLE authapi_{table} IN ACCESS SHARE MODE")
        await asyncio.to_thread(future.run, "db", "current")  # the load of a command, as above
        begun = time.monotonic()
        usual = slowest(traffic, 0, begun)
        upgrade = future.command("db", "upgrade", additive)
        await until(lambda: "is tried again" in upgrade.output(), within=60, what="a first attempt")
        await asyncio.sleep(scaled(5, 60))  # a second attempt, and more
        await traffic.ledger.wait_for_revocations(1)
        assert migrations.current(postgres_here) == migrations.head()
        await dump.rollback()
        assert await asyncio.to_thread(upgrade.wait, 60) == 0, upgrade.output()
        longest = slowest(traffic, begun, time.monotonic())
        assert migrations.current(postgres_here) == additive
        await traffic.ledger.wait_for_revocations(1)
    ledger = traffic.ledger
    async with Client(running.port) as client:
        problems = await check(client, ledger.accounts) + check_rows(postgres_here)
    report(
        f"{ledger.statuses.total()} requests, 503: {ledger.statuses[503]}, other 5xx "
        f"{len(ledger.unexpected)}, no response {ledger.lost}; statements waited "
        f"{waited():.2f} s at most, requests took {longest:.2f} s, before {usual:.2f} s; "
        f"{ledger.summary()}, lost or half done {len(problems)}"
    )
    assert (problems, traffic.violations, ledger.unexpected, ledger.lost) == ([], [], [], 0)
    assert 0.1 < waited() < _BOUND, "the upgrade did not wait, or for too long"
    assert longest < usual + _BOUND
