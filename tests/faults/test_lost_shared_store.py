"""7 and 8: the Valkey server with the rate limits is down, empty, full, frozen or corrupted.

It stores only rate limits: logins work on, revoked credentials stay revoked, and limits fall back
to memory. An attacker gets the attempts of each counter once: of the shared one, of the one in the
memory of each process, and of the shared one again if it returns empty.
"""

import asyncio
import hashlib
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor, new_password
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.load import load
from tests.servers.valkey import ValkeyServer

pytestmark = pytest.mark.faults

_GUESSES, _PROCESSES = 5, 2
_SECONDS = 1.5

_REPLACE = "redis.call('DEL', KEYS[1]) return redis.call(ARGV[1], KEYS[1], ARGV[2])"
"""Atomic: otherwise a counter could start again in between."""

Mode = Callable[[ValkeyServer], AbstractAsyncContextManager[object]]


@asynccontextmanager
async def stopped(valkey: ValkeyServer) -> AsyncIterator[None]:
    await asyncio.to_thread(valkey.stop)
    yield
    await asyncio.to_thread(valkey.start)


@asynccontextmanager
async def killed(valkey: ValkeyServer) -> AsyncIterator[None]:
    await asyncio.to_thread(valkey.kill)
    yield
    await asyncio.to_thread(valkey.start)


@asynccontextmanager
async def flushed(valkey: ValkeyServer) -> AsyncIterator[None]:
    await asyncio.to_thread(valkey.command, "FLUSHALL")
    yield


@asynccontextmanager
async def full(valkey: ValkeyServer) -> AsyncIterator[None]:
    await asyncio.to_thread(valkey.command, "CONFIG", "SET", "maxmemory", "1")
    yield
    await asyncio.to_thread(valkey.command, "CONFIG", "SET", "maxmemory", "0")


@asynccontextmanager
async def frozen(valkey: ValkeyServer) -> AsyncIterator[None]:
    with valkey.frozen():
        yield


@asynccontextmanager
async def poisoned(valkey: ValkeyServer) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_poison(valkey))
        yield
        task.cancel()
    await asyncio.to_thread(valkey.command, "FLUSHALL")


async def _poison(valkey: ValkeyServer) -> None:
    """Repeatedly overwrites every key with a value of another type."""
    while True:
        for number, key in enumerate(await asyncio.to_thread(valkey.held)):
            how = ("SET", "LPUSH", "SADD")[number % 3]
            junk = secrets.token_urlsafe(32)
            await asyncio.to_thread(valkey.command, "EVAL", _REPLACE, "1", key, how, junk)
        await asyncio.sleep(0.05)


MODES: tuple[Mode, ...] = (stopped, killed, flushed, full, frozen, poisoned)


async def test_07_losing_the_shared_store(
    postgres_here: str,
    new_service: NewService,
    valkey: ValkeyServer,
    report: Report,
    chance: random.Random,
) -> None:
    limits = {"REDIS_URL": valkey.url, "LIMIT_ACCOUNT_AND_NETWORK": f"{_GUESSES}/hour"}
    service, rounds = new_service(postgres_here, **limits), scaled(1, 10)
    ports = [running.port for running in await asyncio.to_thread(service.start_many, _PROCESSES)]
    admitted: dict[str, int] = {}
    async with load(ports, chance, actors=2) as traffic:
        for mode in MODES * rounds:
            victim = await _victim(ports, chance)
            await _wait_for_store(ports, valkey)
            before = await _guesses(ports, victim, _GUESSES + 3)
            async with mode(valkey):
                during = await _guesses_for(ports, victim, _SECONDS)
            # A process tries the store again five seconds after a failure.
            after = await _guesses(ports, victim, 2 * _GUESSES)
            statuses = before + during + after
            assert set(statuses) <= {401, 429}, statuses
            name = mode.__name__
            admitted[name] = max(admitted.get(name, 0), statuses[401])
    async with Client(ports[0]) as client:
        problems = await check(client, traffic.ledger.accounts) + check_rows(postgres_here)
    limit, ledger = _GUESSES * (_PROCESSES + 2), traffic.ledger
    failed = sum(n for status, n in ledger.statuses.items() if status >= 500)
    extra = ", ".join(f"{name} {number - _GUESSES}" for name, number in admitted.items())
    report(
        f"{rounds} rounds of each, {ledger.summary()}; 5xx {failed}, revoked accepted "
        f"{len(traffic.violations)} of {traffic.tried}, slowest {ledger.slowest:.1f} s; guesses "
        f"admitted beyond the limit of {_GUESSES}: {extra} (at most {limit - _GUESSES})"
    )
    assert (problems, traffic.violations, ledger.unexpected, failed, ledger.lost) == (
        [],
        [],
        [],
        0,
        0,
    )
    assert max(admitted.values()) <= limit


async def _victim(ports: list[int], chance: random.Random) -> str:
    async with Client(ports[0]) as client:
        account = await Actor([client], Ledger(), chance).register()
    assert account
    return account.email


async def _wait_for_store(ports: list[int], valkey: ValkeyServer) -> None:
    """Waits until each process uses the shared store again."""
    for port in ports:
        async with asyncio.timeout(20):
            while True:
                email = f"{secrets.token_hex(8)}@example.com"
                await _guesses([port], email, 1)
                digest = hashlib.sha256(email.encode()).hexdigest()
                if any(digest in key for key in await asyncio.to_thread(valkey.held)):
                    break
                await asyncio.sleep(0.1)


async def _guesses(ports: list[int], email: str, number: int) -> Counter[int]:
    statuses = Counter[int]()
    for turn in range(number):
        async with Client(ports[turn % len(ports)]) as client:
            response = await client.post("/login", {"email": email, "password": new_password()})
            statuses[response.status] += 1
    return statuses


async def _guesses_for(ports: list[int], email: str, seconds: float) -> Counter[int]:
    statuses, until = Counter[int](), time.monotonic() + seconds
    while time.monotonic() < until:
        statuses += await _guesses(ports, email, len(ports))
    return statuses
