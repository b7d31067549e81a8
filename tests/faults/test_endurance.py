"""23 and 24: a storm of logins does not stop other requests, and a mixed load leaks nothing."""

import asyncio
import random
import time
from collections import Counter

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Account, Ledger
from tests.faults.harness.load import load
from tests.faults.harness.process_stats import sample, slope
from tests.faults.harness.service import ARGON2_KIB

pytestmark = [pytest.mark.faults, pytest.mark.own_interpreters]  # they measure memory and files

_CONCURRENCY, _QUEUE = 2, 20
_MARGIN = 48 << 20
_MB = 1 << 20


async def test_23_storm_of_logins(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    settings = {"HASH_CONCURRENCY": str(_CONCURRENCY), "HASH_QUEUE": str(_QUEUE)}
    service, seconds = new_service(url, **settings), scaled(8, 60)
    running = await asyncio.to_thread(service.start)
    statuses, durations, resident = Counter[int](), list[float](), list[int]()
    async with Client(running.port, timeout=60) as client:
        alice = await _create_account(client, chance)
        base = sample(running.process.pid).resident
        until = time.monotonic() + seconds
        stormy = await _create_account(
            client, chance
        )  # the number of logins of one account is limited
        body = {"email": stormy.email, "password": stormy.password, "strategy": "token"}

        async def storm() -> None:
            while time.monotonic() < until:
                response = await client.post("/login", body)
                statuses[response.status] += 1
                assert response.status == 200 or int(response.headers["retry-after"]) >= 1
                # Ignores Retry-After: the worst kind of client.
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(storm())
            while time.monotonic() < until:
                response = await client.get("/me", alice.live[0].headers)
                assert response.status == 200
                durations.append(response.seconds)
                resident.append(sample(running.process.pid).resident)
                await asyncio.sleep(0.01)
        again = await client.post("/login", body)
    share = statuses[503] / statuses.total()
    report(
        f"100 clients for {seconds} s: {statuses[200] / seconds:.0f} logins/s, 503 {share:.0%}; "
        f"GET /me {spread(durations)}; memory {base // _MB} MB before, max "
        f"{max(resident) // _MB} MB "
        f"({_CONCURRENCY} hashes of {ARGON2_KIB // 1024} MB at a time)"
    )
    assert set(statuses) <= {200, 503}
    assert again.status == 200
    assert max(durations) < 2
    assert max(resident) < base + _CONCURRENCY * ARGON2_KIB * 1024 + _MARGIN


async def test_24_mixed_load(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    # A small cache, so that its size is constant before the memory is measured. A long lifetime, as
    # acknowledged credentials are checked at the end and must not expire before.
    service = new_service(url, IDENTITY_CACHE_SIZE="2000", JWT_LIFETIME="7200")
    seconds, step = scaled(60, 1800), 0.25
    running = await asyncio.to_thread(service.start)
    async with load([running.port], chance, bound=0.006) as traffic:
        await asyncio.sleep(seconds / 3)  # until pools and caches are full
        samples = []
        for _ in range(round(seconds * 2 / 3 / step)):
            await asyncio.sleep(step)
            samples.append(sample(running.process.pid))
    async with Client(running.port) as client:
        problems = await check(client, traffic.ledger.accounts) + check_rows(url)
    ledger, growth = traffic.ledger, slope([one.resident for one in samples], step)
    errors = sum(n for status, n in ledger.statuses.items() if status >= 500)
    report(
        f"{seconds} s, {ledger.statuses.total() / seconds:.0f} requests/s, {ledger.summary()}; "
        f"errors {errors}, no response {ledger.lost}; memory {samples[0].resident // _MB} to "
        f"{samples[-1].resident // _MB} MB, {growth / _MB * 60:+.1f} MB/min; files "
        f"{samples[0].files} to {samples[-1].files}; GET /me "
        f"{spread([seconds for _, seconds, _ in traffic.latencies])}"
    )
    assert (problems, traffic.violations, ledger.unexpected, errors, ledger.lost) == (
        [],
        [],
        [],
        0,
        0,
    )
    assert samples[-1].resident - samples[0].resident < 20 * _MB
    assert max(one.files for one in samples) < 100


async def _create_account(client: Client, chance: random.Random) -> Account:
    actor = Actor([client], Ledger(), chance)
    account = await actor.register()
    assert account
    assert await actor.log_in(account, "token")
    return account
