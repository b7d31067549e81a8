"""3 and 4: PostgreSQL is killed, and cuts everybody off; the service comes back by itself."""

import asyncio
import random
import time
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import audit, check
from tests.faults.harness.facts import Ledger
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.load import Load, load
from tests.faults.harness.waiting import until_answered
from tests.faults.harness.wire import Client
from tests.servers.postgres import PostgresCluster
from tests.storage.rows import sql

pytestmark = pytest.mark.faults


async def test_03_kill_9_of_postgres(
    cluster: PostgresCluster,
    postgres_here: str,
    new_service: NewService,
    report: Report,
    chance: random.Random,
) -> None:
    service, rounds, away = new_service(postgres_here), scaled(3, 30), scaled(2, 5)
    ports = [running.port for running in await asyncio.to_thread(service.start_many, 2)]
    recoveries = list[float]()
    async with load(ports, chance) as going:
        for _ in range(rounds):
            await going.ledger.more_revocations(5)
            await asyncio.sleep(chance.uniform(0, 0.3))
            await asyncio.to_thread(cluster.kill)
            await asyncio.sleep(away)
            await asyncio.to_thread(cluster.start)
            recoveries.append(await _recovery(ports, chance))
    problems = await _afterwards(going, ports, postgres_here)
    report(
        _line(rounds, going, problems)
        + f"; first 200s after its return max {max(recoveries):.2f} s"
    )
    assert (problems, going.revived, going.ledger.wrong) == ([], [], [])
    assert max(recoveries) < 10


async def test_04_all_connections_cut(
    postgres_here: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(postgres_here), scaled(6, 60)
    ports = [running.port for running in await asyncio.to_thread(service.start_many, 2)]
    name = urlsplit(postgres_here).path[1:]
    cut = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    recoveries = list[float]()
    async with load(ports, chance) as going:
        for _ in range(rounds):
            await going.ledger.more_revocations(3)
            await asyncio.sleep(chance.uniform(0, 0.3))
            await asyncio.to_thread(sql, postgres_here, cut)
            recoveries.append(await _recovery(ports, chance))
    problems = await _afterwards(going, ports, postgres_here)
    statuses = going.ledger.statuses
    errors = statuses[503] / statuses.total()
    latencies = [seconds for _, seconds, _ in going.latencies]
    report(
        _line(rounds, going, problems) + f"; 503: {errors:.2%}, GET /me {spread(latencies)}; "
        f"all work again after max {max(recoveries):.2f} s"
    )
    assert (problems, going.revived, going.ledger.wrong) == ([], [], [])
    assert going.ledger.lost == 0
    assert max(recoveries) < 5


async def _recovery(ports: list[int], chance: random.Random) -> float:
    """Seconds until each process has registered somebody and logged them in."""
    began = time.monotonic()
    for port in ports:
        async with Client(port) as client:
            account = await Actor([client], Ledger(), chance).registered()
            while account is None:
                account = await Actor([client], Ledger(), chance).registered()
                assert time.monotonic() < began + 60
            body = {"email": account.email, "password": account.password}
            await until_answered(lambda b=body, c=client: c.post("/login", b), within=30)  # type: ignore[misc]  # bound at once
    return time.monotonic() - began


async def _afterwards(going: Load, ports: list[int], url: str) -> list[str]:
    async with Client(ports[0]) as client:
        return await check(client, going.ledger.accounts) + audit(url)


def _line(rounds: int, going: Load, problems: list[str]) -> str:
    ledger = going.ledger
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(ledger.statuses.items()))
    return (
        f"{rounds} rounds, {ledger.summary()}; lost, half done or doubled {len(problems)}; revoked "
        f"accepted {len(going.revived)} of {going.tried}; {statuses}, no answer {ledger.lost}; "
        f"slowest {ledger.slowest:.1f} s"
    )
