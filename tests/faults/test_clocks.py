"""9: clocks that are five minutes off, another time zone, and a clock that is set back."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import is_accepted
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Account, Credential, Ledger
from tests.faults.harness.service import Service
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_SKEW = 300
_LIFETIME = 310
"""Seconds: slightly more than the skew, so that for a clock ahead new credentials expire soon."""
_PRECISE = 1.5
"""Seconds: `exp` has a resolution of one second."""


async def test_09_wrong_clocks(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service = new_service(url, JWT_LIFETIME=str(_LIFETIME), TOKEN_LIFETIME=str(_LIFETIME))
    zones = {
        "right": ("0", "UTC"),
        "early": (str(-_SKEW), "Asia/Kolkata"),
        "late": (str(_SKEW), "UTC"),
    }
    running = {
        name: service.start(wait=False, environment={**_clock(offset), "TZ": zone})
        for name, (offset, zone) in zones.items()
    }
    for process in running.values():
        await asyncio.to_thread(process.ready)
    lines = []
    async with (
        Client(running["right"].port) as right,
        Client(running["early"].port) as early,
        Client(running["late"].port) as late,
    ):
        account = await _create_account(right, chance)
        expiring = [found for found in account.live if found.strategy != "session"]
        found = await asyncio.gather(*(_until_refused(late, found) for found in expiring))
        ends = dict(zip(expiring, found, strict=True))
        accepted_by_early = {
            found.strategy: await is_accepted(early, found) for found in account.live
        }
        lines = [
            f"{name} from {_SKEW} s ahead accepted: {taken}"
            for name, taken in accepted_by_early.items()
        ]
        for credential, (at, expires_at) in ends.items():
            lines.append(
                f"{credential.strategy} refused by a clock {_SKEW} s ahead "
                f"{at + _SKEW - expires_at:+.2f} s after its end there"
            )
        for credential in account.live:
            assert await is_accepted(right, credential)
        pruned = await _prune_in_the_past(service, url)
        valid_later = [await is_accepted(right, credential) for credential in account.live]
    report("; ".join(lines) + f"; live rows pruned with the clock an hour back: {pruned}")
    for credential, (at, expires_at) in ends.items():
        assert -0.1 < at + _SKEW - expires_at < _PRECISE, credential.strategy
    # A JWT issued in the future is rejected, beyond a leeway (`crypto/jws.py`). Other credentials
    # are rows: only their expiry depends on the clock of the process that issued them.
    assert accepted_by_early == {"session": True, "token": True, "jwt": False}
    assert pruned == 0
    assert all(valid_later)


async def _until_refused(client: Client, credential: Credential) -> tuple[float, float]:
    """Returns when it was first rejected, and when it expires, both by the correct clock."""
    deadline = time.monotonic() + 30
    assert await is_accepted(client, credential), "it has ten seconds left by that clock"
    while await is_accepted(client, credential):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return time.time(), credential.expires_at


async def _prune_in_the_past(service: Service, url: str) -> int:
    before = len(sql(url, "SELECT id FROM authapi_sessions"))
    service.extra = {**service.extra, **_clock("-3600")}
    await asyncio.to_thread(service.run, "sessions", "prune")
    return before - len(sql(url, "SELECT id FROM authapi_sessions"))


async def _create_account(client: Client, chance: random.Random) -> Account:
    actor = Actor([client], Ledger(), chance)
    account = await actor.register()
    assert account
    for strategy in ("session", "token", "jwt"):
        assert await actor.log_in(account, strategy)
    return account


def _clock(offset: str) -> dict[str, str]:
    paths = [str(Path(__file__).parent / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"FAULT_CLOCK_OFFSET": offset, "PYTHONPATH": os.pathsep.join(paths)}
