"""28: clients hang up at any point of every change; nothing is half done, no connection is lost."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor, new_password
from tests.faults.harness.checker import audit
from tests.faults.harness.facts import Account, Ledger
from tests.faults.harness.figures import scaled
from tests.faults.harness.waiting import until
from tests.faults.harness.wire import Client, Headers

pytestmark = pytest.mark.faults

_POOL = 3
_LONGEST = 0.15
"""Seconds; no change takes longer than this when nobody else is there."""

Request = tuple[str, str, object, Headers | None]


async def test_28_hanging_up(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(url, DATABASE_POOL_SIZE=str(_POOL)), scaled(5, 60)
    running = await asyncio.to_thread(service.start)
    hung_up = 0
    async with Client(running.port) as client:
        for _ in range(rounds):
            account = await _account(client, chance)
            cuts = [
                client.hang_up(method, path, json=json, headers=headers, after=after)
                for method, path, json, headers in _requests(account)
                for after in (0, chance.uniform(0, 0.02), chance.uniform(0, _LONGEST))
            ]
            chance.shuffle(cuts)
            for first in range(0, len(cuts), 4):
                await asyncio.gather(*cuts[first : first + 4])
            hung_up += len(cuts)
        # Every connection of the pool is wanted at the same moment, over and over.
        statuses = set[int]()
        for _ in range(5):
            asked = [client.get("/health/ready") for _ in range(4 * _POOL)]
            statuses |= {answer.status for answer in await asyncio.gather(*asked)}
        someone = await _account(client, chance)
        renames = [_renamed(client, someone, number) for number in range(4 * _POOL)]
        statuses |= set(await asyncio.gather(*renames))
    await until(lambda: not audit(url), within=10, what="an end of what was begun")
    problems = audit(url)
    said = running.process.output()
    report(
        f"{hung_up} requests cut at random points, half done {len(problems)}; afterwards "
        f"{4 * _POOL} at once on a pool of {_POOL}: {sorted(statuses)}; tracebacks "
        f"{said.count('Traceback')}"
    )
    assert (problems, statuses) == ([], {200})
    assert "Traceback" not in said
    assert "garbage collector" not in said


def _requests(account: Account) -> Iterator[Request]:
    """One of each change; those that end what the others need come last."""
    login = {"email": account.email, "password": account.password}
    jwt, session, token, other = (credential.headers for credential in account.live)
    yield "POST", "/register", {"email": f"x{account.email}", "password": new_password()}, None
    for strategy in ("session", "token", "jwt"):
        yield "POST", "/login", {**login, "strategy": strategy}, None
    yield "POST", "/me/tokens", {"name": "a script"}, jwt
    yield "PATCH", "/me", {"name": "somebody else"}, jwt
    yield "PATCH", "/me/session", {"theme": "dark"}, session
    yield "DELETE", f"/me/sessions/{account.live[3].session_id}", None, jwt
    yield "POST", "/logout", None, token
    change = {"current_password": account.password, "new_password": new_password()}
    yield "POST", "/me/password", change, jwt
    yield "DELETE", "/me/sessions", None, jwt
    yield "DELETE", "/me", None, other


async def _account(client: Client, chance: random.Random) -> Account:
    actor = Actor([client], Ledger(), chance)
    account = await actor.registered()
    assert account
    for strategy in ("jwt", "session", "token", "jwt"):
        assert await actor.log_in(account, strategy)
    return account


async def _renamed(client: Client, account: Account, number: int) -> int:
    answer = await client.send(
        "PATCH", "/me", json={"name": f"name {number}"}, headers=account.live[0].headers
    )
    return answer.status
