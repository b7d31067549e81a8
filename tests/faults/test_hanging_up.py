"""28: clients that disconnect during a change cause no partial change and leak no connection."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor, new_password
from tests.faults.harness.checker import check_rows
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client, Headers
from tests.faults.harness.ledger import Account, Ledger
from tests.faults.harness.polling import until

pytestmark = pytest.mark.faults

_POOL = 3
_MAX_DELAY = 0.15
"""Seconds; without other load every change takes less."""

Request = tuple[str, str, object, Headers | None]


async def test_28_hanging_up(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(url, DATABASE_POOL_SIZE=str(_POOL)), scaled(5, 60)
    running = await asyncio.to_thread(service.start)
    aborted = 0
    async with Client(running.port) as client:
        for _ in range(rounds):
            account = await _create_account(client, chance)
            requests = [
                client.hang_up(method, path, json=json, headers=headers, after=after)
                for method, path, json, headers in _requests(account)
                for after in (0, chance.uniform(0, 0.02), chance.uniform(0, _MAX_DELAY))
            ]
            chance.shuffle(requests)
            for first in range(0, len(requests), 4):
                await asyncio.gather(*requests[first : first + 4])
            aborted += len(requests)
        # More concurrent requests than connections in the pool, several times.
        statuses = set[int]()
        for _ in range(5):
            probes = [client.get("/health/ready") for _ in range(4 * _POOL)]
            statuses |= {response.status for response in await asyncio.gather(*probes)}
        alice = await _create_account(client, chance)
        renames = [_rename(client, alice, number) for number in range(4 * _POOL)]
        statuses |= set(await asyncio.gather(*renames))
    await until(lambda: not check_rows(url), within=10, what="the end of pending changes")
    problems = check_rows(url)
    logs = running.process.output()
    report(
        f"{aborted} requests cut at random points, half done {len(problems)}; afterwards "
        f"{4 * _POOL} at once on a pool of {_POOL}: {sorted(statuses)}; tracebacks "
        f"{logs.count('Traceback')}"
    )
    assert (problems, statuses) == ([], {200})
    assert "Traceback" not in logs
    assert "garbage collector" not in logs


def _requests(account: Account) -> Iterator[Request]:
    """Yields one request for each change. Those that end a login of others come last."""
    login = {"email": account.email, "password": account.password}
    jwt, session, token, other = (credential.headers for credential in account.live)
    yield "POST", "/register", {"email": f"x{account.email}", "password": new_password()}, None
    for strategy in ("session", "token", "jwt"):
        yield "POST", "/login", {**login, "strategy": strategy}, None
    yield "POST", "/me/tokens", {"name": "a script"}, jwt
    yield "PATCH", "/me", {"name": "another name"}, jwt
    yield "PATCH", "/me/session", {"theme": "dark"}, session
    yield "DELETE", f"/me/sessions/{account.live[3].session_id}", None, jwt
    yield "POST", "/logout", None, token
    change = {"current_password": account.password, "new_password": new_password()}
    yield "POST", "/me/password", change, jwt
    yield "DELETE", "/me/sessions", None, jwt
    yield "DELETE", "/me", None, other


async def _create_account(client: Client, chance: random.Random) -> Account:
    actor = Actor([client], Ledger(), chance)
    account = await actor.register()
    assert account
    for strategy in ("jwt", "session", "token", "jwt"):
        assert await actor.log_in(account, strategy)
    return account


async def _rename(client: Client, account: Account, number: int) -> int:
    response = await client.send(
        "PATCH", "/me", json={"name": f"name {number}"}, headers=account.live[0].headers
    )
    return response.status
