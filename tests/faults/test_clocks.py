"""9: clocks that are wrong by five minutes, another time zone, and a clock that was moved back."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import accepted
from tests.faults.harness.facts import Account, Credential, Ledger
from tests.faults.harness.service import Service
from tests.faults.harness.wire import Client
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_SKEW = 300
_LIFETIME = 310
"""Seconds: just more than the skew, so that what is issued by the right clock is about to end."""
_PRECISE = 1.5
"""Seconds: `exp` is written in whole ones."""


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
        name: service.start(waits=False, environment={**_clock(offset), "TZ": zone})
        for name, (offset, zone) in zones.items()
    }
    for process in running.values():
        await asyncio.to_thread(process.ready)
    told = []
    async with (
        Client(running["right"].port) as right,
        Client(running["early"].port) as early,
        Client(running["late"].port) as late,
    ):
        account = await _someone(right, chance)
        passing = [found for found in account.live if found.strategy != "session"]
        found = await asyncio.gather(*(_until_refused(late, found) for found in passing))
        ends = dict(zip(passing, found, strict=True))
        behind = {found.strategy: await accepted(early, found) for found in account.live}
        told = [f"{name} from {_SKEW} s ahead taken: {taken}" for name, taken in behind.items()]
        for credential, (at, expires_at) in ends.items():
            told.append(
                f"{credential.strategy} refused by a clock {_SKEW} s ahead "
                f"{at + _SKEW - expires_at:+.2f} s after its end there"
            )
        for credential in account.live:
            assert await accepted(right, credential)
        pruned = await _prune_in_the_past(service, url)
        alive = [await accepted(right, credential) for credential in account.live]
    report("; ".join(told) + f"; live rows pruned with the clock an hour back: {pruned}")
    for credential, (at, expires_at) in ends.items():
        assert -0.1 < at + _SKEW - expires_at < _PRECISE, credential.strategy
    # A JWT from the future is not believed, beyond a leeway (`crypto/jws.py`); the others are rows,
    # and what a row says does not depend on the clock of whoever wrote it, but for its end.
    assert behind == {"session": True, "token": True, "jwt": False}
    assert pruned == 0
    assert all(alive)


async def _until_refused(client: Client, credential: Credential) -> tuple[float, float]:
    """When it was refused first, and when it ends, both by the right clock."""
    deadline = time.monotonic() + 30
    assert await accepted(client, credential), "it has ten seconds left there"
    while await accepted(client, credential):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return time.time(), credential.expires_at


async def _prune_in_the_past(service: Service, url: str) -> int:
    before = len(sql(url, "SELECT id FROM sessions"))
    service.extra = {**service.extra, **_clock("-3600")}
    await asyncio.to_thread(service.run, "sessions", "prune")
    return before - len(sql(url, "SELECT id FROM sessions"))


async def _someone(client: Client, chance: random.Random) -> Account:
    actor = Actor([client], Ledger(), chance)
    account = await actor.registered()
    assert account
    for strategy in ("session", "token", "jwt"):
        assert await actor.log_in(account, strategy)
    return account


def _clock(offset: str) -> dict[str, str]:
    paths = [str(Path(__file__).parent / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"FAULT_CLOCK_OFFSET": offset, "PYTHONPATH": os.pathsep.join(paths)}
