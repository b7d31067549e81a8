"""18 and 19: a credential revoked in one process is rejected by all, within the bound."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.hammer import (
    CLOCK_TOLERANCE,
    POSTGRES_STALENESS,
    SQLITE_STALENESS,
    Hammer,
)
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Account, Credential, Ledger
from tests.faults.harness.service import Service

pytestmark = pytest.mark.faults

_PROCESSES = 4

Change = Callable[[Service, Client, Account], Awaitable[list[Credential]]]


async def logout(_: Service, client: Client, account: Account) -> list[Credential]:
    one = account.live[-1]
    assert (await client.post("/logout", headers=one.headers)).status == 204
    return [one]


async def end_of_others(_: Service, client: Client, account: Account) -> list[Credential]:
    response = await client.delete("/me/sessions", account.live[0].headers)
    assert response.status == 204
    return account.live[1:]


async def password(_: Service, client: Client, account: Account) -> list[Credential]:
    body = {"current_password": account.password, "new_password": account.password[::-1]}
    response = await client.post("/me/password", body, account.live[0].headers)
    assert response.status == 204
    kept = account.live[0].strategy == "jwt"
    return account.live[1:] if kept else account.live


async def deletion(_: Service, client: Client, account: Account) -> list[Credential]:
    assert (await client.delete("/me", account.live[0].headers)).status == 204
    return account.live


async def deactivation(service: Service, _: Client, account: Account) -> list[Credential]:
    await asyncio.to_thread(service.run, "users", "deactivate", account.email)
    return account.live


CHANGES: tuple[Change, ...] = (logout, end_of_others, password, deletion, deactivation)


async def test_18_revocation_in_four_processes(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(url), scaled(3, 40)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    bound = SQLITE_STALENESS if service.is_sqlite else POSTGRES_STALENESS
    stale: dict[str, list[float]] = {}
    hammers: list[Hammer] = []
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        for change in CHANGES * rounds:
            account = await _create_account(clients, chance)
            used, found = await _measure_staleness(service, clients, account, change, chance)
            hammers += used
            stale.setdefault(change.__name__, []).extend(found)
    repeated = sum(hammer.accepted_after_refusal for hammer in hammers)
    every = [seconds for found in stale.values() for seconds in found]
    late = sum(seconds > bound + CLOCK_TOLERANCE for seconds in every)
    maxima = ", ".join(f"{name} {max(found) * 1000:.1f}" for name, found in stale.items())
    report(
        f"{rounds} rounds of each, {len(every)} credentials x processes, staleness {spread(every)} "
        f"(bound {bound * 1000:.0f} ms; max of {maxima}); beyond it {late}, accepted "
        f"again {repeated}"
    )
    assert (late, repeated, [h.unexpected for h in hammers if h.unexpected]) == (0, 0, [])


async def _measure_staleness(
    service: Service,
    clients: list[Client],
    account: Account,
    change: Change,
    chance: random.Random,
) -> tuple[list[Hammer], list[float]]:
    """Returns the clients of the other processes, and the seconds in which they were accepted."""
    hammers = [Hammer(client, used) for client in clients[1:] for used in account.live[-3:]]
    tasks = {hammer.credential: list[asyncio.Task[None]]() for hammer in hammers}
    for hammer in hammers:
        tasks[hammer.credential].append(asyncio.create_task(hammer.run()))
    await asyncio.sleep(chance.uniform(0.05, 0.15))
    ended = await change(service, clients[0], account)
    acknowledged_at = time.monotonic()
    async with asyncio.timeout(10 * POSTGRES_STALENESS):
        await asyncio.gather(*(task for c in tasks if c in ended for task in tasks[c]))
    rest = [task for found in tasks.values() for task in found]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    revoked_uses = [hammer for hammer in hammers if hammer.credential in ended]
    return hammers, [max(0.0, hammer.last_accepted - acknowledged_at) for hammer in revoked_uses]


async def _create_account(clients: list[Client], chance: random.Random) -> Account:
    """Creates an account with a login of each kind, which is in the cache of every process."""
    ledger = Ledger()
    actor = Actor(clients[:1], ledger, chance)
    account = await actor.register()
    assert account
    for strategy in ("jwt", "session", "token", "jwt"):
        assert await actor.log_in(account, strategy)
    assert not ledger.unexpected
    for client in clients:
        for credential in account.live:
            for _ in range(2):
                assert (await client.get("/me", credential.headers)).status == 200
    return account
