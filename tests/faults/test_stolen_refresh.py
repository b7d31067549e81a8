"""21: a refresh token that is used twice ends its login, and what ends a login ends its tokens."""

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
from tests.faults.harness.checker import accepted, is_spent
from tests.faults.harness.facts import Account, Credential, Ledger
from tests.faults.harness.families import thefts
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.hammering import CLOCK, POSTGRES_BOUND, SQLITE_BOUND, Hammer
from tests.faults.harness.service import Service
from tests.faults.harness.waiting import until
from tests.faults.harness.wire import Answer, Client
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_PROCESSES = 4
_PARALLEL = 50
_GRACE = 1


@dataclass
class Held:
    """Every token of one login, the newest last."""

    tokens: list[Credential] = field(default_factory=list)

    @property
    def newest(self) -> str:
        return self.tokens[-1].refresh_token or ""

    async def refresh(self, client: Client) -> Answer:
        answer = await client.grant(self.newest)
        self.add(answer)
        return answer

    def add(self, answer: Answer) -> None:
        """Keep what a refresh was answered with."""
        if answer.status == 200:
            self.tokens.append(refreshed(self.tokens[-1], answer))

    async def usable(self, clients: Sequence[Client]) -> Counter[str]:
        """How many of the tokens are taken by a process: refresh, and access."""
        found = Counter[str]()
        every = {token.refresh_token or "" for token in self.tokens}
        for client in clients:
            found["refresh"] += sum([not await is_spent(client, token) for token in every])
            found["access"] += sum([await accepted(client, token) for token in self.tokens])
        return found


async def test_21_theft(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, rounds = new_service(url, REFRESH_GRACE=str(_GRACE)), scaled(1, 30)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    bound = SQLITE_BOUND if service.is_sqlite else POSTGRES_BOUND
    stale, usable, statuses, hammers = list[float](), Counter[str](), Counter[int](), 0
    alarms, wrong, again = 0, list[list[int]](), 0
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        for replay in (_previous, _older, _racing) * rounds:
            held = await _refreshed_twice(clients, chance)
            used = [Hammer(client, token) for client in clients for token in held.tokens]
            tasks = [asyncio.create_task(hammer.run()) for hammer in used]
            answers = await replay(clients, held)
            told = min(answer.ended for answer in answers if answer.status == 400)
            async with asyncio.timeout(10 * POSTGRES_BOUND):
                await asyncio.gather(*tasks)
            hammers += len(used)
            stale += [max(0.0, hammer.last_accepted - told) for hammer in used]
            again += sum(hammer.after for hammer in used)
            wrong += [hammer.wrong for hammer in used if hammer.wrong]
            statuses.update(answer.status for answer in answers)
            usable += await held.usable(clients)
            alarms += thefts(url) == len(stale) // len(used)
    ((sessions,),) = sql(url, "SELECT count(*) FROM sessions")
    ((families,),) = sql(url, "SELECT count(*) FROM refresh_families")
    late = sum(seconds > bound + CLOCK for seconds in stale)
    report(
        f"{3 * rounds} thefts (the token before, an older one, two thieves and the owner at once), "
        f"told by one event each {alarms}; {hammers} access tokens x processes, staleness "
        f"{spread(stale)} (bound {bound * 1000:.0f} ms), beyond it {late}, accepted again {again}; "
        f"usable afterwards {usable.total()}, 5xx {sum(n for s, n in statuses.items() if s >= 500)}"
    )
    assert alarms == 3 * rounds
    assert (late, again, wrong, usable.total()) == (0, 0, [], 0)
    assert (sessions, families) == (0, 0)
    assert set(statuses) <= {200, 400}


async def _previous(clients: Sequence[Client], held: Held) -> list[Answer]:
    answer = await clients[0].grant(held.tokens[-2].refresh_token or "")
    assert answer.status == 400
    return [answer]


async def _older(clients: Sequence[Client], held: Held) -> list[Answer]:
    answer = await clients[0].grant(held.tokens[0].refresh_token or "")
    assert answer.status == 400
    return [answer]


async def _racing(clients: Sequence[Client], held: Held) -> list[Answer]:
    older, previous, newest = (token.refresh_token or "" for token in held.tokens)
    presented = (previous, previous, newest, older)
    pairs = zip(clients, presented, strict=True)
    answers = await asyncio.gather(*(client.grant(token) for client, token in pairs))
    for answer in answers:
        held.add(answer)
    return answers


async def _refreshed_twice(clients: Sequence[Client], chance: random.Random) -> Held:
    """A login that is known on every process, with tokens that are past their grace."""
    _, credential = await _logged_in(clients[0], chance)
    held = Held([credential])
    for client in clients[:2]:
        assert (await held.refresh(client)).status == 200
    past = time.monotonic() + _GRACE + 0.05
    for client in clients:
        for token in held.tokens:
            for _ in range(2):
                assert await accepted(client, token)
    await until(lambda: time.monotonic() > past, within=2 * _GRACE, what="the end of the grace")
    return held


Change = Callable[[Service, Sequence[Client], Account], Coroutine[Any, Any, Counter[int]]]


async def logout(_: Service, clients: Sequence[Client], account: Account) -> Counter[int]:
    headers = account.live[0].headers
    return await _at_once(clients, lambda client: client.post("/logout", headers=headers))


async def password(_: Service, clients: Sequence[Client], account: Account) -> Counter[int]:
    headers = account.live[0].headers

    def change(client: Client) -> Awaitable[Answer]:
        body = {"current_password": account.password, "new_password": new_password()}
        return client.post("/me/password", body, headers)

    return await _at_once(clients, change)


async def deactivation(service: Service, _: Sequence[Client], account: Account) -> Counter[int]:
    # Not fifty: each is a process of its own.
    command = ("users", "deactivate", account.email)
    await asyncio.gather(*(asyncio.to_thread(service.run, *command) for _ in range(2)))
    return Counter({204: 2})


_LEFT: dict[Change, tuple[set[str], set[str]]] = {
    # What must be usable afterwards: of the login that asked for it, and of another.
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
        for change in [*_LEFT] * rounds:
            account, first = await _logged_in(clients[0], chance)
            _, second = await _logged_in(clients[0], chance, account)
            logins = [Held([first]), Held([second])]
            changing = asyncio.create_task(change(service, clients, account))
            # One more wave after the end: they meet it before, at and behind it.
            while not changing.done():
                refreshes += await _wave(clients, logins)
            refreshes += await _wave(clients, logins)
            name = change.__name__
            changes[name] = changes.get(name, Counter()) + await changing
            for held, expected in zip(logins, _LEFT[change], strict=True):
                found = await _left(held, clients)
                if found != expected:
                    problems.append(f"{name}: {found} instead of {expected} are usable")
    alarms, output = thefts(url), "".join(process.process.output() for process in running)
    told = "; ".join(f"{name} {_statuses(found)}" for name, found in changes.items())
    every = sum(changes.values(), refreshes)
    failed = sum(n for status, n in every.items() if status >= 500)
    report(
        f"{rounds} rounds of each, {refreshes.total()} refreshes meanwhile "
        f"({_statuses(refreshes)}; {told}): usable against the rule {len(problems)}, 5xx {failed}, "
        f"false alarms {alarms}, deadlocks {output.count('deadlock')}"
    )
    assert (problems, failed, alarms) == ([], 0, 0)
    assert "deadlock" not in output


async def _wave(clients: Sequence[Client], logins: Sequence[Held]) -> Counter[int]:
    """Fifty refreshes at once, of both logins in turns."""
    held = [(logins[n % 2], clients[n // 2 % len(clients)]) for n in range(_PARALLEL)]
    answers = await asyncio.gather(*(client.grant(login.newest) for login, client in held))
    for login in logins:
        # One of each wave: there are as many access tokens as answers.
        mine = [a for (other, _), a in zip(held, answers, strict=True) if other is login]
        login.add(next((a for a in mine if a.status == 200), mine[0]))
    return Counter(answer.status for answer in answers)


async def _left(held: Held, clients: Sequence[Client]) -> set[str]:
    """Which kinds of tokens are usable somewhere: of refresh tokens, the newest."""
    found = set[str]()
    for client in clients:
        if not await is_spent(client, held.newest):
            found.add("refresh")
        used = [await accepted(client, token) for token in held.tokens]
        if any(used):
            found.add("access")
        if any(used) != all(used):
            found.add("some access")
    return found


async def _at_once(
    clients: Sequence[Client], ask: Callable[[Client], Awaitable[Answer]]
) -> Counter[int]:
    asked = (ask(clients[number % len(clients)]) for number in range(_PARALLEL))
    return Counter(answer.status for answer in await asyncio.gather(*asked))


def _statuses(counted: Counter[int]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in sorted(counted.items()))


async def _logged_in(
    client: Client, chance: random.Random, account: Account | None = None
) -> tuple[Account, Credential]:
    actor = Actor([client], Ledger(), chance)
    account = account or await actor.registered()
    assert account
    credential = await actor.log_in(account, "jwt")
    assert credential
    return account, credential
