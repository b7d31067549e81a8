"""5: PostgreSQL becomes slow, then a black hole; answers stay bounded and true."""

import asyncio
import random
import time
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import audit, check
from tests.faults.harness.facts import Account, Ledger
from tests.faults.harness.figures import percentile, scaled, spread
from tests.faults.harness.load import load
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.waiting import until_ready
from tests.faults.harness.wire import Answer, Client, Lost

pytestmark = pytest.mark.faults

_TIMEOUT, _POOL_TIMEOUT, _BOUND = 2.0, 1.0, 2.0
_MARGIN = 2.0
_READY_WITHIN = 2.0
_ANSWERED_WITHIN = _POOL_TIMEOUT + 2 * _TIMEOUT + 1
"""Seconds that a transaction may take, waiting for its connection included (`Database`)."""
_PATIENCE = 20.0
"""Seconds after which the client gives up: far beyond what the settings allow."""


async def test_05_a_slow_and_then_silent_database(
    postgres_here: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    parts = urlsplit(postgres_here)
    assert parts.port
    async with Proxy(lambda: [parts.port or 0]) as proxy:
        service = new_service(
            postgres_here.replace(f":{parts.port}/", f":{proxy.port}/"),
            DATABASE_TIMEOUT=str(_TIMEOUT),
            DATABASE_POOL_TIMEOUT=str(_POOL_TIMEOUT),
            DATABASE_POOL_SIZE="5",
        )
        port = (await asyncio.to_thread(service.start)).port
        async with Client(port, timeout=_PATIENCE) as client:
            actor = Actor([client], Ledger(), chance)
            someone = await actor.registered()
            assert someone
            assert await actor.log_in(someone, "token")
            async with load([port], chance, bound=0, patience=_PATIENCE) as going:
                await going.ledger.more_revocations(2)
                proxy.delay = 2.0
                slow = await _watched(client, someone, seconds=scaled(4, 20))
                proxy.heal()
                await until_ready(client, within=60)
                await going.ledger.more_revocations(2)
                await asyncio.sleep(2 * _BOUND)  # by then changes are heard again
                for _ in range(2):  # and this caller is known
                    assert (await client.get("/me", someone.live[0].headers)).status == 200
                proxy.swallow()
                silent_at = time.monotonic()
                silent = await _watched(client, someone, seconds=scaled(12, 30))
                proxy.heal()
                recovery = await until_ready(client, within=60)
                await going.ledger.more_revocations(2)
            problems = await check(client, going.ledger.accounts) + audit(postgres_here)
    refused = [a.seconds for a in silent["/health/ready"] if a.status == 503]
    served = [a.began - silent_at for a in silent["/me"] if a.status == 200]
    live = [answer.seconds for answer in slow["/health/live"] + silent["/health/live"]]
    lost = slow.lost + silent.lost
    during = [(s, what) for began, s, what in going.ledger.answers if began > silent_at]
    during += [(a.seconds, path) for path, asked in silent.items() for a in asked]
    slowest = max(during)
    report(
        f"503 of /health/ready {spread(refused, 1, 2)} s after they were asked; slowest of all "
        f"answers {slowest[0]:.2f} s to {slowest[1]} (settings allow {_ANSWERED_WITHIN:.0f} s); "
        f"/health/live {spread(live)}; known callers served until {max(served, default=0):.2f} s "
        f"after the silence began (bound {_BOUND:.0f} s); ready again after {recovery:.2f} s; no "
        f"answer {len(lost) + going.ledger.lost}; lost or half done {len(problems)}, revoked "
        f"accepted {len(going.revived)} of {going.tried}"
    )
    assert (problems, going.revived, going.ledger.wrong, lost) == ([], [], [], [])
    assert going.ledger.lost == 0
    assert {answer.status for answer in silent["/health/ready"]} == {503}
    assert percentile(refused, 0.99) < _READY_WITHIN + _MARGIN
    assert {answer.status for answer in slow["/health/live"] + silent["/health/live"]} == {200}
    assert max(live) < 1
    assert 0 < max(served, default=0) < _BOUND + 0.1
    assert recovery < _TIMEOUT + _MARGIN
    assert slowest[0] < _ANSWERED_WITHIN + _MARGIN, (
        "a connection that says nothing holds its request"
    )


class Watched(dict[str, list[Answer]]):
    """What each path answered."""

    def __init__(self) -> None:
        super().__init__({"/health/live": [], "/health/ready": [], "/me": []})
        self.lost = list[str]()


async def _watched(client: Client, account: Account, *, seconds: float) -> Watched:
    """Asks each path again and again, and waits for the last answers too."""
    found, until = Watched(), time.monotonic() + seconds

    async def ask(path: str) -> None:
        while time.monotonic() < until:
            headers = account.live[0].headers if path == "/me" else None
            try:
                found[path].append(await client.get(path, headers))
            except Lost:
                found.lost.append(path)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(ask(path) for path in found))
    return found
