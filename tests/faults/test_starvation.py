"""39: with a tenth of a core and 256 MB, the service starts, works, refuses what is too much."""

import asyncio
import random
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import new_password
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import SCALE, scaled
from tests.faults.harness.http_client import Client, Response
from tests.faults.harness.load import load
from tests.faults.harness.process_stats import sample
from tests.faults.harness.starvation import MEMORY, starving

pytestmark = pytest.mark.faults

_ACTORS = 6
_STORM = 100
_LONGEST = 60.0
"""Seconds within which each request is answered."""


@pytest.mark.parametrize("url", ["sqlite", "postgres"] if SCALE > 1 else ["sqlite"], indirect=True)
async def test_39_a_tenth_of_a_core(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service = new_service(url)
    with ExitStack() as stack:
        limits = stack.enter_context(starving())
        stack.callback(service.stack.close)  # the process ends before its control groups
        running = service.start(prefix=limits.prefix, wait=False)
        limits.began(running.process.pid)
        started = await asyncio.to_thread(running.ready, 120)
        most = 0
        async with load(
            [running.port], chance, actors=_ACTORS, request_timeout=_LONGEST
        ) as background:
            ledger, ends = background.ledger, time.monotonic() + scaled(8, 300)
            while time.monotonic() < ends or not ledger.facts["refresh"]:
                most = max(most, sample(running.process.pid).resident)
                await asyncio.sleep(0.2)
                assert time.monotonic() < ends + 60, "no refresh"
            storm = await _storm(running.port)
        limits.relax()
        async with Client(running.port) as client:
            problems = await check(client, ledger.accounts)
        problems += check_rows(url)
        killed = limits.killed()
    refused = ledger.statuses[503] / ledger.statuses.total()
    report(
        f"{limits.name}: ready after {started:.1f} s, {ledger.summary()} ({dict(ledger.facts)}), "
        f"{ledger.statuses.total()} requests, 503 {refused:.0%}, slowest {ledger.slowest:.1f} s, "
        f"no answer {ledger.lost}, lost or half done {len(problems)}, killed {killed}, memory max "
        f"{most >> 20} MB; {_STORM} logins at once: "
        f"{dict(Counter(it.status for it in storm))}, "
        f"slowest {max(it.seconds for it in storm):.1f} s"
    )
    assert (problems, ledger.unexpected, background.violations) == ([], [], [])
    assert (killed, ledger.lost) == (0, 0)
    assert ledger.facts["login"] > 0
    assert ledger.facts["refresh"] > 0
    assert most < MEMORY
    assert {it.status for it in storm} <= {401, 503}
    assert all(it.status == 401 or "retry-after" in it.headers for it in storm)


async def _storm(port: int) -> list[Response]:
    """More logins at once than can be verified in time."""

    async def one() -> Response:
        async with Client(port, _LONGEST) as client:
            body = {"email": f"{new_password()[:16]}@example.com", "password": new_password()}
            return await client.post("/login", body)

    return await asyncio.gather(*(one() for _ in range(_STORM)))
