"""1: kill -9 of the service loses no acknowledged change, and leaves no partial change."""

import asyncio
import random
import time

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check, check_rows, integrity, is_accepted
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Ledger
from tests.servers.process import free_port

pytestmark = pytest.mark.faults

_ACTORS = 6


async def test_01_kill_9_of_the_service(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, port = new_service(url), free_port()
    rounds = scaled(10, 100)  # on each of two databases
    ledger, problems, restarts = Ledger(), list[str](), list[float]()
    running = await asyncio.to_thread(service.start, port=port)
    for _ in range(rounds):
        first = len(ledger.accounts)
        async with Client(port) as client:
            actors = [Actor([client], ledger, chance) for _ in range(_ACTORS)]
            # The actors run until there is no response.
            async with asyncio.TaskGroup() as group:
                lives = [group.create_task(a.run(lambda: ledger.lost >= 1)) for a in actors]
                # Kill after a revocation, which must stay in effect,
                await ledger.wait_for_revocations(1)
                # and after an acknowledged refresh, which must stay in effect too.
                await ledger.wait_for_another("refresh")
                await asyncio.sleep(chance.uniform(0, 0.5))
                running.process.kill()
            assert all(life.done() for life in lives)
        ledger.lost = 0
        started_at = time.monotonic()
        running = await asyncio.to_thread(service.start, port=port)
        restarts.append(time.monotonic() - started_at)
        async with Client(port) as client:
            problems += await check(client, ledger.accounts[first:])
    async with Client(port) as client:
        # Revoked credentials stay revoked after all restarts.
        dead = [c for account in ledger.accounts for c, _ in account.revoked]
        revived = sum([await is_accepted(client, credential) for credential in dead])
    problems += check_rows(url)
    checked = f", integrity_check {integrity(url)}" if service.is_sqlite else ""
    report(
        f"{rounds} rounds, {ledger.summary()}, {ledger.facts['refresh']} of them refreshes; "
        f"lost or half done {len(problems)}, "
        f"revoked accepted {revived} of {len(dead)}{checked}; restart to ready "
        f"max {max(restarts):.1f} s"
    )
    assert ledger.facts["register"] > rounds
    assert ledger.facts["refresh"] >= rounds
    assert (problems, revived, ledger.unexpected) == ([], 0, [])
    assert not checked or checked.endswith(" ok")
