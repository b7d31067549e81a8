"""21: fifty concurrent refreshes act as one, and a lost response does not end the login."""

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check_rows
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.http_client import Client, Response
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.refresh_families import FamilyRows, TokenChain, count_reuse_events, digest
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
    statuses, successors, durations = Counter[int](), list[int](), list[float]()
    uses, problems = Counter[int](), list[str]()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        token = (await _log_in(clients[0], chance)).token
        for number in range(rounds):
            responses = await _refresh_together(clients, token)
            statuses.update(response.status for response in responses)
            durations += [response.seconds for response in responses]
            given = {
                response.json()["refresh_token"] for response in responses if response.status == 200
            }
            successors.append(len(given))
            for response in responses:
                headers = {"Authorization": f"Bearer {response.json().get('access_token')}"}
                used = await asyncio.gather(*(client.get("/me", headers) for client in clients))
                uses.update(found.status for found in used)
            if len(given) != 1:
                break
            before, token = token, given.pop()
            rows = FamilyRows.of(url)
            if rows != FamilyRows([digest(token)], [digest(before)], sessions=1):
                problems.append(f"round {number}: {len(rows.current)} families: {rows}")
    alarms, output = (
        count_reuse_events(url),
        "".join(process.process.output() for process in running),
    )
    report(
        f"{rounds} rounds of {_PARALLEL} with one token: successors min {min(successors)} max "
        f"{max(successors)}, live leaves 1 in {rounds - len(problems)} rounds, false alarms "
        f"{alarms}, 5xx {sum(n for s, n in statuses.items() if s >= 500)}, logged out "
        f"{statuses[400]}; access tokens used {uses.total()} times, refused "
        f"{uses.total() - uses[200]}; {spread(durations)}"
    )
    assert statuses == {200: rounds * _PARALLEL}, statuses
    assert uses == {200: rounds * _PARALLEL * processes}
    assert (problems, alarms, check_rows(url)) == ([], 0, [])
    assert "deadlock" not in output


async def test_21_killed_between_rotation_and_answer(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, port, rounds = new_service(url), free_port(), scaled(5, 100)
    running = await asyncio.to_thread(service.start, port=port)
    async with Client(port) as client:
        chains = [await _log_in(client, chance) for _ in range(_CHAINS)]
    rotated, downtimes, problems = 0, list[float](), list[str]()
    for _ in range(rounds):
        async with Client(port) as client, asyncio.TaskGroup() as group:
            for chain in chains:
                group.create_task(chain.refresh_until_lost(client))
            # After the refreshes have started, at a random moment.
            await asyncio.sleep(chance.uniform(0.02, 0.3))
            running.process.kill()
            killed = time.monotonic()
        before = FamilyRows.of(url)
        rotated += sum(digest(chain.token) not in before.current for chain in chains)
        running = await asyncio.to_thread(service.start, port=port)
        downtimes.append(time.monotonic() - killed)
        async with Client(port) as client:
            for chain in chains:
                problems += await _retry(client, chain, before)
    lost = rounds * len(chains)
    alarms, wrong = count_reuse_events(url), [text for chain in chains for text in chain.unexpected]
    report(
        f"{rounds} kills, {sum(chain.acknowledged for chain in chains)} refreshes acknowledged, "
        f"{lost} in doubt, of which {rotated} had rotated; renewed by the old token "
        f"{lost - len(problems)} of {lost}, false alarms {alarms}; asked again after at most "
        f"{max(downtimes):.1f} s"
    )
    assert (problems, wrong, alarms, check_rows(url)) == ([], [], 0, [])


async def test_21_lost_answers(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, port = new_service(url), free_port()
    kills, losses = scaled(2, 20), scaled(10, 200)
    running = await asyncio.to_thread(service.start, port=port)
    problems = list[str]()
    async with (
        Proxy(lambda: [port]) as proxy,
        Client(port) as direct,
        Client(proxy.port) as via_proxy,
    ):
        chain = await _log_in(direct, chance)
        for number in range(losses + kills):
            proxy.drops_responses = True
            assert await chain.refresh(via_proxy) is None
            proxy.drops_responses = False
            before = FamilyRows.of(url)
            if before.previous != [digest(chain.token)]:
                problems.append("a response was sent without a committed rotation")
            if number >= losses:
                running.process.kill()
                running = await asyncio.to_thread(service.start, port=port)
            problems += await _retry(via_proxy, chain, before)
    alarms = count_reuse_events(url)
    report(
        f"{proxy.dropped} responses lost after the rotation, {kills} with SIGKILL before the next "
        f"request: the old token gave the same successor {losses + kills - len(problems)} times, "
        f"false alarms {alarms}"
    )
    assert proxy.dropped == losses + kills
    assert (problems, chain.unexpected, alarms, check_rows(url)) == ([], [], 0, [])


async def _retry(client: Client, chain: TokenChain, before: FamilyRows) -> list[str]:
    """Repeats a refresh twice with the token of the client. Returns the problems."""
    token = chain.token
    was_rotated = digest(token) not in before.current
    responses = [await client.grant(token) for _ in range(2)]
    if {response.status for response in responses} != {200}:
        return [f"refused: {[response.body[:100] for response in responses]}"]
    first, second = (response.json()["refresh_token"] for response in responses)
    if first != second or (was_rotated and digest(first) not in before.current):
        return ["the repetitions returned different tokens"]
    await chain.refresh(client)
    me = await client.get("/me", {"Authorization": f"Bearer {chain.access}"})
    return [] if me.status == 200 else [f"its access token: {me.status}"]


async def _log_in(client: Client, chance: random.Random) -> TokenChain:
    actor = Actor([client], Ledger(), chance)
    account = await actor.register()
    assert account
    credential = await actor.log_in(account, "jwt")
    assert credential
    return TokenChain(credential.refresh_token or "")


async def _refresh_together(clients: list[Client], token: str) -> list[Response]:
    return await asyncio.gather(
        *(clients[number % len(clients)].grant(token) for number in range(_PARALLEL))
    )
