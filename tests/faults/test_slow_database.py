"""5: PostgreSQL becomes slow, then silent; response times stay bounded, and responses right."""

import asyncio
import random
import time
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import percentile, scaled, spread
from tests.faults.harness.http_client import Client, Lost, Response
from tests.faults.harness.ledger import Account, Ledger
from tests.faults.harness.load import load
from tests.faults.harness.polling import until_ready
from tests.faults.harness.proxy import Proxy

pytestmark = pytest.mark.faults

_TIMEOUT, _POOL_TIMEOUT, _BOUND = 2.0, 1.0, 2.0
_MARGIN = 2.0
_READY_WITHIN = 2.0
_ANSWERED_WITHIN = _POOL_TIMEOUT + 2 * _TIMEOUT + 1
"""Longest transaction in seconds, with the wait for its connection (`Database`)."""
_CLIENT_TIMEOUT = 20.0
"""Seconds, far beyond what the settings of the service allow."""


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
        async with Client(port, timeout=_CLIENT_TIMEOUT) as client:
            actor = Actor([client], Ledger(), chance)
            alice = await actor.register()
            assert alice
            assert await actor.log_in(alice, "token")
            async with load([port], chance, bound=0, request_timeout=_CLIENT_TIMEOUT) as traffic:
                await traffic.ledger.wait_for_revocations(2)
                proxy.delay = 2.0
                slow = await _poll(client, alice, seconds=scaled(4, 20))
                proxy.restore()
                await until_ready(client, within=60)
                await traffic.ledger.wait_for_revocations(2)
                await asyncio.sleep(2 * _BOUND)  # until change notifications arrive again
                for _ in range(2):  # so that the identity is cached
                    assert (await client.get("/me", alice.live[0].headers)).status == 200
                proxy.black_hole()
                silent_at = time.monotonic()
                silent = await _poll(client, alice, seconds=scaled(12, 30))
                proxy.restore()
                recovery = await until_ready(client, within=60)
                await traffic.ledger.wait_for_revocations(2)
            problems = await check(client, traffic.ledger.accounts) + check_rows(postgres_here)
    refused = [a.seconds for a in silent["/health/ready"] if a.status == 503]
    served = [a.started_at - silent_at for a in silent["/me"] if a.status == 200]
    live = [response.seconds for response in slow["/health/live"] + silent["/health/live"]]
    lost = slow.lost + silent.lost
    during = [
        (s, what) for started_at, s, what in traffic.ledger.responses if started_at > silent_at
    ]
    during += [(a.seconds, path) for path, responses in silent.items() for a in responses]
    slowest = max(during)
    report(
        f"503 of /health/ready {spread(refused, 1, 2)} s after the request; slowest of all "
        f"responses {slowest[0]:.2f} s to {slowest[1]} (settings allow {_ANSWERED_WITHIN:.0f} s); "
        f"/health/live {spread(live)}; cached identities served until "
        f"{max(served, default=0):.2f} s after the silence began (bound {_BOUND:.0f} s); "
        f"ready again after {recovery:.2f} s; no response {len(lost) + traffic.ledger.lost}; lost "
        f"or half done {len(problems)}, revoked accepted {len(traffic.violations)} of "
        f"{traffic.tried}"
    )
    assert (problems, traffic.violations, traffic.ledger.unexpected, lost) == ([], [], [], [])
    assert traffic.ledger.lost == 0
    assert {response.status for response in silent["/health/ready"]} == {503}
    assert percentile(refused, 0.99) < _READY_WITHIN + _MARGIN
    assert {response.status for response in slow["/health/live"] + silent["/health/live"]} == {200}
    assert max(live) < 1
    assert 0 < max(served, default=0) < _BOUND + 0.1
    assert recovery < _TIMEOUT + _MARGIN
    assert slowest[0] < _ANSWERED_WITHIN + _MARGIN, "a silent connection blocks its request"


class Responses(dict[str, list[Response]]):
    """The responses of each path."""

    def __init__(self) -> None:
        super().__init__({"/health/live": [], "/health/ready": [], "/me": []})
        self.lost = list[str]()


async def _poll(client: Client, account: Account, *, seconds: float) -> Responses:
    """Requests each path repeatedly, and waits for the last responses."""
    found, until = Responses(), time.monotonic() + seconds

    async def poll(path: str) -> None:
        while time.monotonic() < until:
            headers = account.live[0].headers if path == "/me" else None
            try:
                found[path].append(await client.get(path, headers))
            except Lost:
                found.lost.append(path)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(poll(path) for path in found))
    return found
