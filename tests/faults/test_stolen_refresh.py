"""21: reuse of a refresh token ends the login, and the end of a login ends its tokens."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor, new_password, refreshed
from tests.faults.harness.checker import is_accepted, is_spent
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.hammer import (
    CLOCK_TOLERANCE,
    POSTGRES_STALENESS,
    SQLITE_STALENESS,
    Hammer,
)
from tests.faults.harness.http_client import Client, Response
from tests.faults.harness.ledger import Account, Credential, Ledger
from tests.faults.harness.polling import until
from tests.faults.harness.refresh_families import count_reuse_events
from tests.faults.harness.service import Service
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_PROCESSES = 4
_PARALLEL = 50
_GRACE = 1


@dataclass
class TokenHistory:
    """All tokens of one login, the newest last."""

    tokens: list[Credential] = field(default_factory=list)

    @property
    def newest(self) -> str:
        return self.tokens[-1].refresh_token or ""

    async def refresh(self, client: Client) -> Response:
        response = await client.grant(self.newest)
        self.add(response)
        return response

    def add(self, response: Response) -> None:
        """Adds the tokens of a successful refresh."""
        if response.status == 200:
            self.tokens.append(refreshed(self.tokens[-1], response))

    async def usable(self, clients: Sequence[Client]) -> Counter[str]:
        """Counts the refresh and access tokens that the processes accept."""
        found = Counter[str]()
        all_statuses = {token.refresh_token or "" for token in self.tokens}
        for client in clients:
            found["refresh"] += sum([not await is_spent(client, token) for token in all_statuses])
            found["access"] += sum([await is_accepted(client, token) for token in self.tokens])
        return found


async def test_21_theft(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(url, REFRESH_GRACE=str(_GRACE)), scaled(1, 30)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    bound = SQLITE_STALENESS if service.is_sqlite else POSTGRES_STALENESS
    stale, usable, statuses, hammers = list[float](), Counter[str](), Counter[int](), 0
    alarms, wrong, repeated = 0, list[list[int]](), 0
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        for replay in (_previous, _older, _racing) * rounds:
            history = await _refreshed_twice(clients, chance)
            used = [Hammer(client, token) for client in clients for token in history.tokens]
            tasks = [asyncio.create_task(hammer.run()) for hammer in used]
            responses = await replay(clients, history)
            rejected_at = min(response.ended for response in responses if response.status == 400)
            async with asyncio.timeout(10 * POSTGRES_STALENESS):
                await asyncio.gather(*tasks)
            hammers += len(used)
            stale += [max(0.0, hammer.last_accepted - rejected_at) for hammer in used]
            repeated += sum(hammer.accepted_after_refusal for hammer in used)
            wrong += [hammer.unexpected for hammer in used if hammer.unexpected]
            statuses.update(response.status for response in responses)
            usable += await history.usable(clients)
            alarms += count_reuse_events(url) == len(stale) // len(used)
    ((sessions,),) = sql(url, "SELECT count(*) FROM authapi_sessions")
    ((families,),) = sql(url, "SELECT count(*) FROM authapi_refresh_families")
    late = sum(seconds > bound + CLOCK_TOLERANCE for seconds in stale)
    report(
        f"{3 * rounds} thefts (the token before, an older one, two thieves and the owner at once), "
        f"reported by one event each {alarms}; {hammers} access tokens x processes, staleness "
        f"{spread(stale)} (bound {bound * 1000:.0f} ms), beyond it {late}, accepted again "
        f"{repeated}; usable afterwards {usable.total()}, "
        f"5xx {sum(n for s, n in statuses.items() if s >= 500)}"
    )
    assert alarms == 3 * rounds
    assert (late, repeated, wrong, usable.total()) == (0, 0, [], 0)
    assert (sessions, families) == (0, 0)
    assert set(statuses) <= {200, 400}


async def _previous(clients: Sequence[Client], history: TokenHistory) -> list[Response]:
    response = await clients[0].grant(history.tokens[-2].refresh_token or "")
    assert response.status == 400
    return [response]


async def _older(clients: Sequence[Client], history: TokenHistory) -> list[Response]:
    response = await clients[0].grant(history.tokens[0].refresh_token or "")
    assert response.status == 400
    return [response]


async def _racing(clients: Sequence[Client], history: TokenHistory) -> list[Response]:
    older, previous, newest = (token.refresh_token or "" for token in history.tokens)
    presented = (previous, previous, newest, older)
    pairs = zip(clients, presented, strict=True)
    responses = await asyncio.gather(*(client.grant(token) for client, token in pairs))
    for response in responses:
        history.add(response)
    return responses


async def _refreshed_twice(clients: Sequence[Client], chance: random.Random) -> TokenHistory:
    """Creates a login that every process has cached, with tokens past their grace period."""
    _, credential = await _log_in(clients[0], chance)
    history = TokenHistory([credential])
    for client in clients[:2]:
        assert (await history.refresh(client)).status == 200
    past = time.monotonic() + _GRACE + 0.05
    for client in clients:
        for token in history.tokens:
            for _ in range(2):
                assert await is_accepted(client, token)
    await until(
        lambda: time.monotonic() > past, within=2 * _GRACE, what="the end of the grace period"
    )
    return history


Change = Callable[[Service, Sequence[Client], Account], Coroutine[Any, Any, Counter[int]]]


async def logout(_: Service, clients: Sequence[Client], account: Account) -> Counter[int]:
    headers = account.live[0].headers
    return await _send_together(clients, lambda client: client.post("/logout", headers=headers))


async def password(_: Service, clients: Sequence[Client], account: Account) -> Counter[int]:
    headers = account.live[0].headers

    def change(client: Client) -> Awaitable[Response]:
        body = {"current_password": account.password, "new_password": new_password()}
        return client.post("/me/password", body, headers)

    return await _send_together(clients, change)


async def deactivation(service: Service, _: Sequence[Client], account: Account) -> Counter[int]:
    # Not fifty: each runs in a process of its own.
    command = ("users", "deactivate", account.email)
    await asyncio.gather(*(asyncio.to_thread(service.run, *command) for _ in range(2)))
    return Counter({204: 2})


_USABLE_AFTER: dict[Change, tuple[set[str], set[str]]] = {
    # The tokens that must be usable afterwards: of the login that asked for it, and of another.
    logout: (set(), {"refresh", "access"}),
    password: ({"access"}, set()),
    deactivation: (set(), set()),
}


async def test_21_refreshes_racing_with_an_end(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(url), scaled(1, 20)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    refreshes, changes = Counter[int](), dict[str, Counter[int]]()
    problems = list[str]()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        for change in [*_USABLE_AFTER] * rounds:
            account, first = await _log_in(clients[0], chance)
            _, second = await _log_in(clients[0], chance, account)
            logins = [TokenHistory([first]), TokenHistory([second])]
            changing = asyncio.create_task(change(service, clients, account))
            # Refresh before, during and once after the end.
            while not changing.done():
                refreshes += await _refresh_together(clients, logins)
            refreshes += await _refresh_together(clients, logins)
            name = change.__name__
            changes[name] = changes.get(name, Counter()) + await changing
            for history, expected in zip(logins, _USABLE_AFTER[change], strict=True):
                found = await _usable_kinds(history, clients)
                if found != expected:
                    problems.append(f"{name}: {found} instead of {expected} are usable")
    alarms, output = (
        count_reuse_events(url),
        "".join(process.process.output() for process in running),
    )
    details = "; ".join(f"{name} {_statuses(found)}" for name, found in changes.items())
    all_statuses = sum(changes.values(), refreshes)
    failed = sum(n for status, n in all_statuses.items() if status >= 500)
    report(
        f"{rounds} rounds of each, {refreshes.total()} refreshes meanwhile "
        f"({_statuses(refreshes)}; {details}): usable against the rule {len(problems)}, "
        f"5xx {failed}, false alarms {alarms}, deadlocks {output.count('deadlock')}"
    )
    assert (problems, failed, alarms) == ([], 0, 0)
    assert "deadlock" not in output


async def _refresh_together(
    clients: Sequence[Client], logins: Sequence[TokenHistory]
) -> Counter[int]:
    """Sends fifty concurrent refreshes, alternately of both logins."""
    history = [(logins[n % 2], clients[n // 2 % len(clients)]) for n in range(_PARALLEL)]
    responses = await asyncio.gather(*(client.grant(login.newest) for login, client in history))
    for login in logins:
        # Keep one response each time: every response has another access token.
        mine = [a for (other, _), a in zip(history, responses, strict=True) if other is login]
        login.add(next((a for a in mine if a.status == 200), mine[0]))
    return Counter(response.status for response in responses)


async def _usable_kinds(history: TokenHistory, clients: Sequence[Client]) -> set[str]:
    """Returns the kinds of tokens that a process accepts: the newest refresh token, and access."""
    found = set[str]()
    for client in clients:
        if not await is_spent(client, history.newest):
            found.add("refresh")
        used = [await is_accepted(client, token) for token in history.tokens]
        if any(used):
            found.add("access")
        if any(used) != all(used):
            found.add("some access")
    return found


async def _send_together(
    clients: Sequence[Client], ask: Callable[[Client], Awaitable[Response]]
) -> Counter[int]:
    asked = (ask(clients[number % len(clients)]) for number in range(_PARALLEL))
    return Counter(response.status for response in await asyncio.gather(*asked))


def _statuses(counted: Counter[int]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in sorted(counted.items()))


async def _log_in(
    client: Client, chance: random.Random, account: Account | None = None
) -> tuple[Account, Credential]:
    actor = Actor([client], Ledger(), chance)
    account = account or await actor.register()
    assert account
    credential = await actor.log_in(account, "jwt")
    assert credential
    return account, credential
