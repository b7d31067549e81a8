"""31: keys are rotated, retired and re-encrypted under load, and no valid token is rejected."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check_rows
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.hammer import (
    CLOCK_TOLERANCE,
    POSTGRES_STALENESS,
    SQLITE_STALENESS,
    Hammer,
)
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Credential, Ledger
from tests.faults.harness.polling import until
from tests.faults.harness.refresh_families import TokenChain
from tests.faults.harness.service import Service
from tests.faults.harness.verification import Verification, kid_of, until_all, verifying
from tests.storage.rows import sql, sync_url
from tests.tables import signing_keys

pytestmark = pytest.mark.faults

_PROCESSES = 4
_CHAINS = 3
"""One of them is used to find which key signs."""
_ROTATION = 3600
_AGE = timedelta(seconds=2 * _ROTATION)
_OTHER_SECRET = "8c1d4e7fa2b5960d3f8e1c7b4a6d2059"  # of a test
_REFRESH_INTERVAL = 30
"""Seconds; `services/keys/lifecycle.py`."""


async def test_31_rotation_under_load(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, early = new_service(url, KEY_ROTATION=str(_ROTATION)), scaled(1, 30)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    bound = SQLITE_STALENESS if service.is_sqlite else POSTGRES_STALENESS
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        probe, *chains = await _chains(clients, chance)
        async with verifying(clients, chains, chance) as seen:
            for _ in range(early):
                await _published_everywhere(url, clients, seen)
                await asyncio.to_thread(service.run, "keys", "rotate", "--early")
                await _signs_everywhere(url, clients, probe, seen)
            await _published_everywhere(url, clients, seen)
            refused = await _rotate_twice_at_once(service)
            at_once = _rotations(url)
            await _published_everywhere(url, clients, seen)
            _age_keys(url, signing=True)
            by_age = await until(
                lambda: _rotations(url) > at_once,
                within=2 * _REFRESH_INTERVAL,
                what="a rotation by age",
            )
            await _signs_everywhere(url, clients, probe, seen)
        rotations = _rotations(url)
        stale, accepted_again = await _retire_and_measure(service, clients, probe)
    wrong = [text for chain in [probe, *chains] for text in chain.unexpected]
    late = sum(seconds > bound + CLOCK_TOLERANCE for seconds in stale)
    report(
        f"{rotations} rotations ({early} early, 1 of two at the same moment, 1 by age after "
        f"{by_age:.0f} s), {seen.signed.total()} tokens of {len(seen.signed)} keys; verified on "
        f"four processes {seen.internal} times, by PyJWKClient {seen.external} times, failed "
        f"{len(seen.failed)}; a retired key: staleness {spread(stale)} on {len(stale)} tokens x "
        f"processes (bound {bound * 1000:.0f} ms), accepted again {accepted_again}"
    )
    assert (seen.failed, wrong, check_rows(url)) == ([], [], [])
    assert at_once == early + 1
    assert refused.startswith("authapi: ")
    assert refused.splitlines()[1:] == ["hint: wait, or use --early"]
    assert rotations == early + 2
    assert (late, accepted_again) == (0, 0)


async def test_31_encrypted_with_another_secret(
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
            output = await asyncio.to_thread(service.run, "keys", "rewrap", stdin=stdin)
            # Like a rolling restart: the next process has the new secret, the first still runs.
            second = await asyncio.to_thread(service.start, settings=other)
            new = await stack.enter_async_context(Client(second.port))
            seen.clients = seen.signers = [old, new]
            service.settings = {**service.settings, **other}
            await _published_everywhere(url, [old, new], seen)
            seen.signers = [new]
            await asyncio.to_thread(service.run, "keys", "rotate", "--early")
            await _signs_everywhere(url, [new], probe, seen)
            # The process with the old secret cannot sign any more, and still verifies.
            await until_all([old], seen.recent[-1], _cannot_sign(probe), within=_REFRESH_INTERVAL)
            enough = seen.internal + 100
            await until(
                lambda: seen.internal > enough,
                within=_REFRESH_INTERVAL,
                what="tokens of the new key",
            )
        tokens = list(seen.recent)
        first.process.terminate()
        third = await asyncio.to_thread(service.start)
        newer = await stack.enter_async_context(Client(third.port))
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}"}
            responses = [await client.get("/me", headers) for client in (new, newer)]
            seen.failed += [
                f"{response.status} later" for response in responses if response.status != 200
            ]
    wrong = [text for chain in chains for text in chain.unexpected]
    report(
        f"a start refused with one line; rewrapped, one process with each secret, rotated, "
        f"both restarted: {seen.signed.total()} tokens of {len(seen.signed)} keys, verified "
        f"{seen.internal + 2 * len(tokens)} times, by PyJWKClient {seen.external} times, failed "
        f"{len(seen.failed)}"
    )
    assert (seen.failed, wrong, check_rows(url)) == ([], [], [])
    assert refused.startswith(
        "authapi: the signing keys in the database are encrypted with another"
    )
    assert refused.count("\n") == 1
    assert output.startswith("Encrypted: 2.")


def _cannot_sign(chain: TokenChain) -> Callable[[Client], Awaitable[bool]]:
    """Returns a condition: a process answers a refresh with 503."""

    async def refuses(client: Client) -> bool:
        return (await client.grant(chain.token)).status == 503

    return refuses


async def _chains(clients: Sequence[Client], chance: random.Random) -> list[TokenChain]:
    found = []
    for number in range(_CHAINS):
        actor = Actor([clients[number % len(clients)]], Ledger(), chance)
        account = await actor.register()
        assert account
        credential = await actor.log_in(account, "jwt")
        assert credential
        found.append(TokenChain(credential.refresh_token or ""))
    return found


def _kid(url: str, state: str) -> str:
    ((kid,),) = sql(url, f"SELECT kid FROM authapi_signing_keys WHERE state = '{state}'")
    return str(kid)


def _rotations(url: str) -> int:
    ((count,),) = sql(url, "SELECT count(*) FROM authapi_events WHERE type = 'key_rotated'")
    return int(count)


async def _published_everywhere(url: str, clients: Sequence[Client], seen: Verification) -> None:
    """Waits until every process publishes the next key, and external verifiers have read it."""
    kid = _kid(url, "next")

    async def publishes(client: Client) -> bool:
        keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
        return kid in {key["kid"] for key in keys}

    await until_all(clients, seen.recent[-1], publishes, within=_REFRESH_INTERVAL)
    await seen.refresh_external_keys()


async def _signs_everywhere(
    url: str, clients: Sequence[Client], chain: TokenChain, seen: Verification
) -> None:
    """Waits until every process signs with the active key. Only this function uses `chain`."""
    kid = _kid(url, "active")

    async def signs(client: Client) -> bool:
        await chain.refresh(client)
        return kid_of(chain.access) == kid

    await until_all(clients, seen.recent[-1], signs, within=_REFRESH_INTERVAL)


def _age_keys(url: str, *, signing: bool = False) -> None:
    """Makes the keys older by two rotation periods, so that the test need not wait.

    Changes the activation time of the active key only if `signing`.
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


async def _rotate_twice_at_once(service: Service) -> str:
    """Runs two rotations at once, one of which is too early. Returns the error line of that one."""
    _age_keys(service.database_url)
    commands = [service.command("keys", "rotate") for _ in range(2)]
    codes = [await asyncio.to_thread(command.wait, 60) for command in commands]
    assert sorted(codes) == [0, 1], codes
    return commands[codes.index(1)].stderr.read_text()


async def _retire_and_measure(
    service: Service, clients: Sequence[Client], chain: TokenChain
) -> tuple[list[float], int]:
    """Retires the active key. Returns how long its tokens were accepted, and acceptances later."""
    kid, hammers = _kid(service.database_url, "active"), list[Hammer]()
    for client in clients:
        await chain.refresh(client)
        assert kid_of(chain.access) == kid
        token = Credential("jwt", {"Authorization": f"Bearer {chain.access}"}, "")
        hammers += [Hammer(other, token) for other in clients]
    tasks = [asyncio.create_task(hammer.run()) for hammer in hammers]
    await until(lambda: all(one.last_accepted for one in hammers), within=10, what="first uses")
    await asyncio.to_thread(service.run, "keys", "retire", kid)
    acknowledged_at = time.monotonic()
    async with asyncio.timeout(10 * POSTGRES_STALENESS):
        await asyncio.gather(*tasks)
    assert not [hammer.unexpected for hammer in hammers if hammer.unexpected]
    # The login continues with the next key.
    await chain.refresh(clients[0])
    for client in clients:
        response = await client.get("/me", {"Authorization": f"Bearer {chain.access}"})
        assert response.status == 200
    stale = [max(0.0, hammer.last_accepted - acknowledged_at) for hammer in hammers]
    return stale, sum(hammer.accepted_after_refusal for hammer in hammers)


def _refused_start(service: Service) -> str:
    """Returns the output of `authapi serve` with another secret."""
    process = service.start(wait=False, settings={"SECRET": _OTHER_SECRET}).process
    assert process.wait(60) == 1
    return process.stderr.read_text()
