"""3 and 4: PostgreSQL is killed, or closes all connections; the service recovers by itself."""

import asyncio
import random
import time
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.load import Load, load
from tests.faults.harness.polling import until_answered
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
    service, rounds, outage = new_service(postgres_here), scaled(3, 30), scaled(2, 5)
    ports = [running.port for running in await asyncio.to_thread(service.start_many, 2)]
    recoveries = list[float]()
    async with load(ports, chance) as traffic:
        for _ in range(rounds):
            await traffic.ledger.wait_for_revocations(5)
            await asyncio.sleep(chance.uniform(0, 0.3))
            await asyncio.to_thread(cluster.kill)
            await asyncio.sleep(outage)
            await asyncio.to_thread(cluster.start)
            recoveries.append(await _recovery(ports, chance))
    problems = await _problems(traffic, ports, postgres_here)
    report(
        _line(rounds, traffic, problems)
        + f"; first 200s after its return max {max(recoveries):.2f} s"
    )
    assert (problems, traffic.violations, traffic.ledger.unexpected) == ([], [], [])
    assert max(recoveries) < 10


async def test_04_all_connections_closed(
    postgres_here: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(postgres_here), scaled(6, 60)
    ports = [running.port for running in await asyncio.to_thread(service.start_many, 2)]
    name = urlsplit(postgres_here).path[1:]
    terminate = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    recoveries = list[float]()
    async with load(ports, chance) as traffic:
        for _ in range(rounds):
            await traffic.ledger.wait_for_revocations(3)
            await asyncio.sleep(chance.uniform(0, 0.3))
            await asyncio.to_thread(sql, postgres_here, terminate)
            recoveries.append(await _recovery(ports, chance))
    problems = await _problems(traffic, ports, postgres_here)
    statuses = traffic.ledger.statuses
    errors = statuses[503] / statuses.total()
    latencies = [seconds for _, seconds, _ in traffic.latencies]
    report(
        _line(rounds, traffic, problems) + f"; 503: {errors:.2%}, GET /me {spread(latencies)}; "
        f"all work again after max {max(recoveries):.2f} s"
    )
    assert (problems, traffic.violations, traffic.ledger.unexpected) == ([], [], [])
    assert traffic.ledger.lost == 0
    assert max(recoveries) < 5


async def _recovery(ports: list[int], chance: random.Random) -> float:
    """Waits until a registration and a login succeed on each process. Returns the seconds."""
    started_at = time.monotonic()
    for port in ports:
        async with Client(port) as client:
            account = await Actor([client], Ledger(), chance).register()
            while account is None:
                account = await Actor([client], Ledger(), chance).register()
                assert time.monotonic() < started_at + 60
            body = {"email": account.email, "password": account.password}
            await until_answered(lambda b=body, c=client: c.post("/login", b), within=30)  # type: ignore[misc]  # bound at once
    return time.monotonic() - started_at


async def _problems(traffic: Load, ports: list[int], url: str) -> list[str]:
    async with Client(ports[0]) as client:
        return await check(client, traffic.ledger.accounts) + check_rows(url)


def _line(rounds: int, traffic: Load, problems: list[str]) -> str:
    ledger = traffic.ledger
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(ledger.statuses.items()))
    return (
        f"{rounds} rounds, {ledger.summary()}; lost, half done or doubled {len(problems)}; revoked "
        f"accepted {len(traffic.violations)} of {traffic.tried}; {statuses}, no response "
        f"{ledger.lost}; slowest {ledger.slowest:.1f} s"
    )
