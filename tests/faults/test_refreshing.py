"""21: fifty refreshes at once are one, and a lost answer to one logs nobody out."""

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import audit
from tests.faults.harness.facts import Ledger
from tests.faults.harness.families import Chain, Rows, digest, thefts
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.wire import Answer, Client
from tests.servers.process import free_port

pytestmark = pytest.mark.faults

_PARALLEL = 50
_CHAINS = 6


@pytest.mark.parametrize("processes", [1, 4])
async def test_21_fifty_refreshes_of_one_token(
    url: str, new_service: NewService, report: Report, processes: int, chance: random.Random
) -> None:
    service, rounds = new_service(url), scaled(10, 100)
    running = await asyncio.to_thread(service.start_many, processes)
    statuses, successors, took = Counter[int](), list[int](), list[float]()
    uses, problems = Counter[int](), list[str]()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        token = (await _logged_in(clients[0], chance)).token
        for number in range(rounds):
            answers = await _refreshes(clients, token)
            statuses.update(answer.status for answer in answers)
            took += [answer.seconds for answer in answers]
            given = {answer.json()["refresh_token"] for answer in answers if answer.status == 200}
            successors.append(len(given))
            for answer in answers:
                headers = {"Authorization": f"Bearer {answer.json().get('access_token')}"}
                used = await asyncio.gather(*(client.get("/me", headers) for client in clients))
                uses.update(found.status for found in used)
            if len(given) != 1:
                break
            before, token = token, given.pop()
            rows = Rows.of(url)
            if rows != Rows([digest(token)], [digest(before)], sessions=1):
                problems.append(f"round {number}: {len(rows.current)} families: {rows}")
    alarms, output = thefts(url), "".join(process.process.output() for process in running)
    report(
        f"{rounds} rounds of {_PARALLEL} with one token: successors min {min(successors)} max "
        f"{max(successors)}, live leaves 1 in {rounds - len(problems)} rounds, false alarms "
        f"{alarms}, 5xx {sum(n for s, n in statuses.items() if s >= 500)}, logged out "
        f"{statuses[400]}; access tokens used {uses.total()} times, refused "
        f"{uses.total() - uses[200]}; {spread(took)}"
    )
    assert statuses == {200: rounds * _PARALLEL}, statuses
    assert uses == {200: rounds * _PARALLEL * processes}
    assert (problems, alarms, audit(url)) == ([], 0, [])
    assert "deadlock" not in output


async def test_21_killed_between_rotation_and_answer(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, port, rounds = new_service(url), free_port(), scaled(5, 100)
    running = await asyncio.to_thread(service.start, port=port)
    async with Client(port) as client:
        chains = [await _logged_in(client, chance) for _ in range(_CHAINS)]
    rotated, waited, problems = 0, list[float](), list[str]()
    for _ in range(rounds):
        async with Client(port) as client, asyncio.TaskGroup() as group:
            for chain in chains:
                group.create_task(chain.until_lost(client))
            # Not before one is under way again, and then whenever.
            await asyncio.sleep(chance.uniform(0.02, 0.3))
            running.process.kill()
            killed = time.monotonic()
        before = Rows.of(url)
        rotated += sum(digest(chain.token) not in before.current for chain in chains)
        running = await asyncio.to_thread(service.start, port=port)
        waited.append(time.monotonic() - killed)
        async with Client(port) as client:
            for chain in chains:
                problems += await _retried(client, chain, before)
    lost = rounds * len(chains)
    alarms, wrong = thefts(url), [text for chain in chains for text in chain.wrong]
    report(
        f"{rounds} kills, {sum(chain.acknowledged for chain in chains)} refreshes acknowledged, "
        f"{lost} in doubt, of which {rotated} had rotated; renewed by the old token "
        f"{lost - len(problems)} of {lost}, false alarms {alarms}; asked again after at most "
        f"{max(waited):.1f} s"
    )
    assert (problems, wrong, alarms, audit(url)) == ([], [], 0, [])


async def test_21_lost_answers(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, port = new_service(url), free_port()
    kills, cuts = scaled(2, 20), scaled(10, 200)
    running = await asyncio.to_thread(service.start, port=port)
    problems = list[str]()
    async with Proxy(lambda: [port]) as proxy, Client(port) as direct, Client(proxy.port) as far:
        chain = await _logged_in(direct, chance)
        for number in range(cuts + kills):
            proxy.loses_answers = True
            assert await chain.refresh(far) is None
            proxy.loses_answers = False
            before = Rows.of(url)
            if before.previous != [digest(chain.token)]:
                problems.append("an answer was sent, and its rotation is not there")
            if number >= cuts:
                running.process.kill()
                running = await asyncio.to_thread(service.start, port=port)
            problems += await _retried(far, chain, before)
    alarms = thefts(url)
    report(
        f"{proxy.lost} answers lost after the rotation, {kills} with SIGKILL before the next "
        f"request: the old token gave the same successor {cuts + kills - len(problems)} times, "
        f"false alarms {alarms}"
    )
    assert proxy.lost == cuts + kills
    assert (problems, chain.wrong, alarms, audit(url)) == ([], [], 0, [])


async def _retried(client: Client, chain: Chain, before: Rows) -> list[str]:
    """What is wrong when a client asks again, twice, with the token that it has."""
    held = chain.token
    was_rotated = digest(held) not in before.current
    answers = [await client.grant(held) for _ in range(2)]
    if {answer.status for answer in answers} != {200}:
        return [f"refused: {[answer.body[:100] for answer in answers]}"]
    first, second = (answer.json()["refresh_token"] for answer in answers)
    if first != second or (was_rotated and digest(first) not in before.current):
        return ["a second chain begins"]
    await chain.refresh(client)
    me = await client.get("/me", {"Authorization": f"Bearer {chain.access}"})
    return [] if me.status == 200 else [f"its access token: {me.status}"]


async def _logged_in(client: Client, chance: random.Random) -> Chain:
    actor = Actor([client], Ledger(), chance)
    account = await actor.registered()
    assert account
    credential = await actor.log_in(account, "jwt")
    assert credential
    return Chain(credential.refresh_token or "")


async def _refreshes(clients: list[Client], token: str) -> list[Answer]:
    return await asyncio.gather(
        *(clients[number % len(clients)].grant(token) for number in range(_PARALLEL))
    )
