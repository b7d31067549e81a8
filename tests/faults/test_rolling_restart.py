"""29: two processes behind a balancer are restarted one after the other, and no request fails."""

import asyncio
import random

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import audit, check
from tests.faults.harness.figures import scaled
from tests.faults.harness.load import load
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.waiting import until
from tests.faults.harness.wire import Client

pytestmark = pytest.mark.faults


async def test_29_rolling_restart(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(url), scaled(2, 20)
    running = await asyncio.to_thread(service.start_many, 2)
    ports = [process.port for process in running]
    in_turn = list(ports)
    codes = list[int]()
    async with Proxy(lambda: in_turn) as balancer, load([balancer.port], chance) as going:
        # A connection may be closed by the other end just when the next request is sent on it, in
        # HTTP as such; a balancer opens its own, so here each request has one.
        going.clients[0].keeps_alive = False
        for _ in range(rounds):
            for number, port in enumerate(ports):
                await going.ledger.more_revocations(3)
                # What an operator does: out of the balancer, done with what it has, SIGTERM. A
                # connection that is open but has not asked yet would be closed.
                in_turn.remove(port)
                await until(lambda p=port: not balancer.open[p], within=30, what="draining")  # type: ignore[misc]  # bound at once
                codes.append(await asyncio.to_thread(running[number].process.terminate, 60))
                running[number] = await asyncio.to_thread(service.start, port=port)
                in_turn.append(port)
        await going.ledger.more_revocations(3)
    ledger = going.ledger
    async with Client(ports[0]) as client:
        problems = await check(client, ledger.accounts) + audit(url)
    failed = ledger.lost + sum(n for status, n in ledger.statuses.items() if status >= 500)
    report(
        f"{len(codes)} restarts, {ledger.statuses.total()} requests, failed {failed}; "
        f"{ledger.summary()}; lost or half done {len(problems)}, revoked accepted "
        f"{len(going.revived)} of {going.tried}"
    )
    assert (failed, problems, going.revived, ledger.wrong) == (0, [], [], [])
    assert set(codes) == {0}
