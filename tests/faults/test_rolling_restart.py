"""29: two processes behind a balancer are restarted one after the other, and no request fails.

The balancer is told before, or only asks whether a process is ready and `shutdown_delay` is set.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import audit, check
from tests.faults.harness.figures import scaled
from tests.faults.harness.load import load
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.service import Running
from tests.faults.harness.waiting import until, until_answered
from tests.faults.harness.wire import Client

pytestmark = pytest.mark.faults


async def told(port: int, running: Running, balancer: Proxy, in_turn: list[int]) -> None:
    """What an operator does: out of the balancer, done with what it has, and SIGTERM."""
    # A connection that is open but has not asked yet would be closed.
    in_turn.remove(port)
    await until(lambda: not balancer.open[port], within=30, what="draining")
    assert await asyncio.to_thread(running.process.terminate, 60) == 0


async def asking(port: int, running: Running, balancer: Proxy, in_turn: list[int]) -> None:
    """SIGTERM with a delay, in which the balancer asks and hears that the process is not ready."""
    ended = asyncio.create_task(asyncio.to_thread(running.process.terminate, 60))
    async with Client(port) as client:
        await until_answered(lambda: client.get("/health/ready"), status=503, within=30)
    await asyncio.sleep(0.5)  # as one that asks twice a second may hear of it as late
    in_turn.remove(port)
    assert await ended == 0


@pytest.mark.parametrize(
    ("restart", "delay"), [(told, "0"), (asking, "1")], ids=["told", "shutdown-delay"]
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
    in_turn = list(ports)
    restarts = 0
    async with Proxy(lambda: in_turn) as balancer, load([balancer.port], chance) as going:
        # A connection may be closed by the other end just when the next request is sent on it, in
        # HTTP as such; a balancer opens its own, so here each request has one.
        going.clients[0].keeps_alive = False
        for _ in range(rounds):
            for number, port in enumerate(ports):
                await going.ledger.more_revocations(3)
                await restart(port, running[number], balancer, in_turn)
                running[number] = await asyncio.to_thread(service.start, port=port)
                in_turn.append(port)
                restarts += 1
        await going.ledger.more_revocations(3)
    ledger = going.ledger
    async with Client(ports[0]) as client:
        problems = await check(client, ledger.accounts) + audit(url)
    failed = ledger.lost + sum(n for status, n in ledger.statuses.items() if status >= 500)
    report(
        f"{restarts} restarts, {ledger.statuses.total()} requests, failed {failed}; "
        f"{ledger.summary()}; lost or half done {len(problems)}, revoked accepted "
        f"{len(going.revived)} of {going.tried}"
    )
    assert (failed, problems, going.revived, ledger.wrong) == (0, [], [], [])
