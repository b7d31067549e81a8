"""31: keys are rotated, retired and sealed anew under load, and no good token is refused."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import sqlalchemy as sa

from authapi.storage.models import signing_keys
from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import audit
from tests.faults.harness.facts import Credential, Ledger
from tests.faults.harness.families import Chain
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.hammering import CLOCK, POSTGRES_BOUND, SQLITE_BOUND, Hammer
from tests.faults.harness.service import Service
from tests.faults.harness.verifying import Verifying, kid_of, until_everywhere, verifying
from tests.faults.harness.waiting import until
from tests.faults.harness.wire import Client
from tests.storage.rows import sql, sync_url

pytestmark = pytest.mark.faults

_PROCESSES = 4
_CHAINS = 3
"""Of which one is there to ask who signs."""
_ROTATION = 3600
_AGE = timedelta(seconds=2 * _ROTATION)
_OTHER_SECRET = "8c1d4e7fa2b5960d3f8e1c7b4a6d2059"  # of a test
_REREAD = 30
"""Seconds; `services/keys/lifecycle.py`."""


async def test_31_rotation_under_load(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, early = new_service(url, KEY_ROTATION=str(_ROTATION)), scaled(1, 30)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    bound = SQLITE_BOUND if service.is_sqlite else POSTGRES_BOUND
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        probe, *chains = await _chains(clients, chance)
        async with verifying(clients, chains, chance) as seen:
            for _ in range(early):
                await _published_everywhere(url, clients, seen)
                await asyncio.to_thread(service.run, "keys", "rotate", "--early")
                await _signs_everywhere(url, clients, probe, seen)
            await _published_everywhere(url, clients, seen)
            refused = await _rotated_twice_at_once(service)
            at_once = _rotations(url)
            await _published_everywhere(url, clients, seen)
            _make_older(url, signing=True)
            by_age = await until(
                lambda: _rotations(url) > at_once, within=2 * _REREAD, what="a rotation by age"
            )
            await _signs_everywhere(url, clients, probe, seen)
        rotations = _rotations(url)
        stale, again = await _retired(service, clients, probe)
    wrong = [text for chain in [probe, *chains] for text in chain.wrong]
    late = sum(seconds > bound + CLOCK for seconds in stale)
    report(
        f"{rotations} rotations ({early} early, 1 of two at the same moment, 1 by age after "
        f"{by_age:.0f} s), {seen.signed.total()} tokens of {len(seen.signed)} keys; verified on "
        f"four processes {seen.inside} times, by PyJWKClient {seen.abroad} times, failed "
        f"{len(seen.failed)}; a retired key: staleness {spread(stale)} on {len(stale)} tokens x "
        f"processes (bound {bound * 1000:.0f} ms), accepted again {again}"
    )
    assert (seen.failed, wrong, audit(url)) == ([], [], [])
    assert at_once == early + 1
    assert refused.startswith("authapi: ")
    assert refused.count("\n") == 1
    assert rotations == early + 2
    assert (late, again) == (0, 0)


async def test_31_sealed_under_another_secret(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, other = new_service(url), {"SECRET": _OTHER_SECRET}
    first = await asyncio.to_thread(service.start)
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(Client(first.port))
        probe, *chains = await _chains([old], chance)
        async with verifying([old], chains, chance) as seen:
            refused = await asyncio.to_thread(_refused_start, service)
            stdin = f"{_OTHER_SECRET}\n"
            told = await asyncio.to_thread(service.run, "keys", "rewrap", stdin=stdin)
            # As a rolling restart does it: the next with the new secret, while the first goes on.
            second = await asyncio.to_thread(service.start, settings=other)
            new = await stack.enter_async_context(Client(second.port))
            seen.clients = seen.signers = [old, new]
            service.settings = {**service.settings, **other}
            await _published_everywhere(url, [old, new], seen)
            seen.signers = [new]
            await asyncio.to_thread(service.run, "keys", "rotate", "--early")
            await _signs_everywhere(url, [new], probe, seen)
            # Whoever has the old secret cannot sign any more, and accepts what is signed.
            await until_everywhere([old], seen.recent[-1], _cannot_sign(probe), within=_REREAD)
            enough = seen.inside + 100
            await until(lambda: seen.inside > enough, within=_REREAD, what="tokens of the new key")
        tokens = list(seen.recent)
        first.process.terminate()
        third = await asyncio.to_thread(service.start)
        newer = await stack.enter_async_context(Client(third.port))
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}"}
            answers = [await client.get("/me", headers) for client in (new, newer)]
            seen.failed += [f"{answer.status} later" for answer in answers if answer.status != 200]
    wrong = [text for chain in chains for text in chain.wrong]
    report(
        f"a start refused with one line; rewrapped, one process with each secret, rotated, "
        f"both restarted: {seen.signed.total()} tokens of {len(seen.signed)} keys, verified "
        f"{seen.inside + 2 * len(tokens)} times, by PyJWKClient {seen.abroad} times, failed "
        f"{len(seen.failed)}"
    )
    assert (seen.failed, wrong, audit(url)) == ([], [], [])
    assert refused.startswith("authapi: the signing keys in the database are sealed with another")
    assert refused.count("\n") == 1
    assert told.startswith("Sealed anew: 2.")


def _cannot_sign(chain: Chain) -> Callable[[Client], Awaitable[bool]]:
    """Whether a process says 503 to a refresh."""

    async def refuses(client: Client) -> bool:
        return (await client.grant(chain.token)).status == 503

    return refuses


async def _chains(clients: Sequence[Client], chance: random.Random) -> list[Chain]:
    found = []
    for number in range(_CHAINS):
        actor = Actor([clients[number % len(clients)]], Ledger(), chance)
        account = await actor.registered()
        assert account
        credential = await actor.log_in(account, "jwt")
        assert credential
        found.append(Chain(credential.refresh_token or ""))
    return found


def _kid(url: str, state: str) -> str:
    ((kid,),) = sql(url, f"SELECT kid FROM signing_keys WHERE state = '{state}'")
    return str(kid)


def _rotations(url: str) -> int:
    ((count,),) = sql(url, "SELECT count(*) FROM events WHERE type = 'key_rotated'")
    return int(count)


async def _published_everywhere(url: str, clients: Sequence[Client], seen: Verifying) -> None:
    """Until every process publishes the key that waits, as after a notice that was long enough."""
    kid = _kid(url, "next")

    async def publishes(client: Client) -> bool:
        keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
        return kid in {key["kid"] for key in keys}

    await until_everywhere(clients, seen.recent[-1], publishes, within=_REREAD)
    await seen.read_abroad()


async def _signs_everywhere(
    url: str, clients: Sequence[Client], chain: Chain, seen: Verifying
) -> None:
    """Until every process signs with the active key, to judge by `chain`, which nobody else has."""
    kid = _kid(url, "active")

    async def signs(client: Client) -> bool:
        await chain.refresh(client)
        return kid_of(chain.access) == kid

    await until_everywhere(clients, seen.recent[-1], signs, within=_REREAD)


def _make_older(url: str, *, signing: bool = False) -> None:
    """The keys become two rotations old: what their age decides need not be waited for.

    The one that signs has done so only since it began to, unless `signing`.
    """
    engine = sa.create_engine(sync_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        for row in connection.execute(sa.select(signing_keys)).all():
            at = row.activated_at - _AGE if signing and row.activated_at else row.activated_at
            connection.execute(
                sa.update(signing_keys)
                .where(signing_keys.c.kid == row.kid)
                .values(created_at=row.created_at - _AGE, activated_at=at)
            )


async def _rotated_twice_at_once(service: Service) -> str:
    """Two commands at the same moment, of which one is told that it is too early; its line."""
    _make_older(service.database_url)
    commands = [service.command("keys", "rotate") for _ in range(2)]
    codes = [await asyncio.to_thread(command.wait, 60) for command in commands]
    assert sorted(codes) == [0, 1], codes
    return commands[codes.index(1)].stderr.read_text()


async def _retired(
    service: Service, clients: Sequence[Client], chain: Chain
) -> tuple[list[float], int]:
    """For how long after its end tokens of the key that signed were accepted; and once more."""
    kid, hammers = _kid(service.database_url, "active"), list[Hammer]()
    for client in clients:
        await chain.refresh(client)
        assert kid_of(chain.access) == kid
        token = Credential("jwt", {"Authorization": f"Bearer {chain.access}"}, "")
        hammers += [Hammer(other, token) for other in clients]
    tasks = [asyncio.create_task(hammer.run()) for hammer in hammers]
    await until(lambda: all(one.last_accepted for one in hammers), within=10, what="first uses")
    await asyncio.to_thread(service.run, "keys", "retire", kid)
    told = time.monotonic()
    async with asyncio.timeout(10 * POSTGRES_BOUND):
        await asyncio.gather(*tasks)
    assert not [hammer.wrong for hammer in hammers if hammer.wrong]
    # The login itself goes on, by the key that waited.
    await chain.refresh(clients[0])
    for client in clients:
        answer = await client.get("/me", {"Authorization": f"Bearer {chain.access}"})
        assert answer.status == 200
    stale = [max(0.0, hammer.last_accepted - told) for hammer in hammers]
    return stale, sum(hammer.after for hammer in hammers)


def _refused_start(service: Service) -> str:
    """What `authapi serve` says when its secret is another one."""
    process = service.start(waits=False, settings={"SECRET": _OTHER_SECRET}).process
    assert process.wait(60) == 1
    return process.stderr.read_text()
