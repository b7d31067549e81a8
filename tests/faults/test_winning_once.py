"""20 and 22: of fifty concurrent requests, exactly one succeeds."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor, new_password
from tests.faults.harness.checker import can_log_in, check_rows
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client, Headers, Response
from tests.faults.harness.ledger import Account, Ledger
from tests.faults.harness.passkeys import (
    add_passkey,
    addition,
    login,
    register_owner,
    second_step,
)
from tests.soft_authenticator import SoftAuthenticator

pytestmark = pytest.mark.faults

_PARALLEL = 50
_RACES = (
    *("register", "password", "end", "token", "delete"),
    *("passkey login", "passkey after a password", "new passkey"),
)


@pytest.mark.parametrize("processes", [1, 4])
async def test_20_fifty_at_once(
    url: str, new_service: NewService, report: Report, processes: int, chance: random.Random
) -> None:
    service, rounds = new_service(url), scaled(1, 20)
    running = await asyncio.to_thread(service.start_many, processes)
    seen = {name: Counter[int]() for name in _RACES}
    winners = list[tuple[str, int]]()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        for name in [*seen] * rounds:
            if "passkey" in name:
                responses = await _passkeys(name, url, clients, chance)
            else:
                responses = await _race(name, clients, chance)
            statuses = [response.status for response in responses]
            seen[name].update(statuses)
            winners.append((name, sum(200 <= status < 300 for status in statuses)))
    problems = check_rows(url)
    failed = sum(n for counted in seen.values() for status, n in counted.items() if status >= 500)
    highest, lowest = (bound(number for _, number in winners) for bound in (max, min))
    details = "; ".join(
        f"{name} " + ", ".join(f"{n} x {status}" for status, n in sorted(counted.items()))
        for name, counted in seen.items()
    )
    report(
        f"{rounds} rounds of {_PARALLEL}: winners min {lowest} max {highest}, 5xx {failed}, "
        f"contradicting rows {len(problems)} ({details})"
    )
    assert [(name, number) for name, number in winners if number != 1] == []
    assert (problems, failed) == ([], 0)


async def _race(name: str, clients: Sequence[Client], chance: random.Random) -> list[Response]:
    actor = Actor([clients[0]], Ledger(), chance)
    if name == "register":
        body = {"email": "Same@Example.com", "password": new_password()}
        body["email"] = f"{chance.getrandbits(64):x}@example.com"
        return await _send_together(clients, "POST", "/register", json=body)
    account = await actor.register()
    assert account
    manager, other = [await actor.log_in(account, strategy) for strategy in ("jwt", "session")]
    assert manager
    assert other
    if name == "end":
        path = f"/me/sessions/{other.session_id}"
        return await _send_together(clients, "DELETE", path, account=account)
    if name == "token":
        made = await clients[0].post("/me/tokens", {"name": "a script"}, manager.headers)
        path = f"/me/tokens/{made.json()['id']}"
        return await _send_together(clients, "DELETE", path, account=account)
    if name == "delete":
        responses = await _send_together(clients, "DELETE", "/me", account=account)
        # A repeated deletion may return 204 too; the rows must show one deletion.
        return [response for response in responses if response.status != 204] + [
            response for response in responses if response.status == 204
        ][:1]
    return await _passwords(clients, account)


async def _passkeys(
    name: str, url: str, clients: Sequence[Client], chance: random.Random
) -> list[Response]:
    """Answers one challenge fifty times; each answer is right."""
    owner, passkey = await register_owner(url, clients[0], chance), SoftAuthenticator()
    if name == "new passkey":
        request = await addition(clients[0], owner, passkey)
    else:
        await add_passkey(clients[0], owner, passkey)
        request = (
            await login(clients[0], passkey)
            if name == "passkey login"
            else await second_step(clients[0], owner, passkey)
        )
    return await _send_together(
        clients, "POST", request.path, json=request.body, headers=request.headers
    )


async def _passwords(clients: Sequence[Client], account: Account) -> list[Response]:
    passwords = [new_password() for _ in range(_PARALLEL)]
    responses = await asyncio.gather(
        *(
            clients[number % len(clients)].post(
                "/me/password",
                {"current_password": account.password, "new_password": password},
                account.live[0].headers,
            )
            for number, password in enumerate(passwords)
        )
    )
    won = [password for password, a in zip(passwords, responses, strict=True) if a.status == 204]
    assert all([await can_log_in(clients[-1], account.email, password) for password in won])
    assert not await can_log_in(clients[-1], account.email, account.password)
    return responses


async def _send_together(
    clients: Sequence[Client],
    method: str,
    path: str,
    *,
    json: object = None,
    account: Account | None = None,
    headers: Headers | None = None,
) -> list[Response]:
    headers = account.live[0].headers if account else headers
    return await asyncio.gather(
        *(
            clients[number % len(clients)].send(method, path, json=json, headers=headers)
            for number in range(_PARALLEL)
        )
    )
