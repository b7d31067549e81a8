"""29: two processes behind a load balancer are restarted in turn, and no request fails.

The operator removes the process from the balancer first, or the balancer polls `/health/ready` and
`shutdown_delay` is set.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.faults.harness.load import load
from tests.faults.harness.polling import until, until_answered
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.service import Running

pytestmark = pytest.mark.faults


async def announced(port: int, running: Running, balancer: Proxy, active_ports: list[int]) -> None:
    """Like an operator: removes the process from the balancer, drains it, and sends SIGTERM."""
    # SIGTERM would close a connection that is open and has sent no request yet.
    active_ports.remove(port)
    await until(lambda: not balancer.open[port], within=30, what="draining")
    assert await asyncio.to_thread(running.process.terminate, 60) == 0


async def polling(port: int, running: Running, balancer: Proxy, active_ports: list[int]) -> None:
    """Sends SIGTERM; the balancer sees during the delay that the process is not ready."""
    ended = asyncio.create_task(asyncio.to_thread(running.process.terminate, 60))
    async with Client(port) as client:
        await until_answered(lambda: client.get("/health/ready"), status=503, within=30)
    await asyncio.sleep(0.5)  # a balancer that polls twice a second may see it this late
    active_ports.remove(port)
    assert await ended == 0


@pytest.mark.parametrize(
    ("restart", "delay"), [(announced, "0"), (polling, "1")], ids=["announced", "shutdown-delay"]
)
async def test_29_rolling_restart(
    url: str,
    new_service: NewService,
    report: Report,
    chance: random.Random,
    restart: Callable[[int, Running, Proxy, list[int]], Awaitable[None]],
    delay: str,
) -> None:
    service, rounds = new_service(url, SHUTDOWN_DELAY=delay), scaled(2, 20)
    running = await asyncio.to_thread(service.start_many, 2)
    ports = [process.port for process in running]
    active_ports = list(ports)
    restarts = 0
    async with Proxy(lambda: active_ports) as balancer, load([balancer.port], chance) as traffic:
        # In HTTP, a server may close a persistent connection just when a request is sent on it. A
        # balancer opens connections of its own, so here each request uses a new one.
        traffic.clients[0].keeps_alive = False
        for _ in range(rounds):
            for number, port in enumerate(ports):
                await traffic.ledger.wait_for_revocations(3)
                await restart(port, running[number], balancer, active_ports)
                running[number] = await asyncio.to_thread(service.start, port=port)
                active_ports.append(port)
                restarts += 1
        await traffic.ledger.wait_for_revocations(3)
    ledger = traffic.ledger
    async with Client(ports[0]) as client:
        problems = await check(client, ledger.accounts) + check_rows(url)
    failed = ledger.lost + sum(n for status, n in ledger.statuses.items() if status >= 500)
    report(
        f"{restarts} restarts, {ledger.statuses.total()} requests, failed {failed}; "
        f"{ledger.summary()}; lost or half done {len(problems)}, revoked accepted "
        f"{len(traffic.violations)} of {traffic.tried}"
    )
    assert (failed, problems, traffic.violations, ledger.unexpected) == (0, [], [], [])
