"""37: kill -9 between the proof of a passkey and what it allows leaves nothing half done."""

import asyncio
import itertools
import random
from collections import Counter
from contextlib import closing
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import check_rows
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client, Lost
from tests.faults.harness.passkeys import (
    Request,
    add_passkey,
    addition,
    is_used,
    login,
    register_owner,
    second_step,
)
from tests.faults.harness.polling import until
from tests.servers.process import free_port
from tests.soft_authenticator import SoftAuthenticator
from tests.storage.rows import sql, sync_url

pytestmark = pytest.mark.faults

_KINDS = ("login", "second step", "first passkey")
_ACCOUNTS = 8
_OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
_WAITS = f"{_OTHERS} AND wait_event_type = 'Lock'"


@dataclass
class _Proof:
    """A passkey that has answered a challenge."""

    kind: str
    user_id: str
    request: Request
    is_acknowledged: bool = False


async def test_37_kill_9_between_a_passkey_and_its_effect(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, port, rounds = new_service(url), free_port(), scaled(6, 60)
    running = await asyncio.to_thread(service.start, port=port)
    done, undone, half_done = Counter[str](), Counter[str](), list[str]()
    for number in range(rounds):
        turn, kind = divmod(number, len(_KINDS))
        async with Client(port) as client:
            proofs = [await _begin(url, client, chance, _KINDS[kind]) for _ in range(_ACCOUNTS)]
            sent = [asyncio.create_task(_complete(client, proof)) for proof in proofs]
            # Some rounds kill before the first answer, others between two of them.
            for task in itertools.islice(asyncio.as_completed(sent), 3 * turn % 5):
                await task
            await asyncio.sleep(chance.uniform(0, 0.02))
            running.process.kill()
            await asyncio.gather(*sent)
        running = await asyncio.to_thread(service.start, port=port)
        for proof in proofs:
            outcome = _outcome(url, proof)
            done[proof.kind] += all(outcome.values())
            undone[proof.kind] += not any(outcome.values())
            is_whole = len(set(outcome.values())) == 1
            if not is_whole or (proof.is_acknowledged and not all(outcome.values())):
                half_done.append(f"{proof.kind}: {outcome}, {proof.is_acknowledged=}")
    problems = check_rows(url)
    figures = ", ".join(f"{kind} {done[kind]} and {undone[kind]} not" for kind in _KINDS)
    report(
        f"{rounds} rounds of {_ACCOUNTS} proofs: {figures}; half done {len(half_done)}, "
        f"contradicting rows {len(problems)}"
    )
    assert (half_done, problems) == ([], [])
    assert done.total() + undone.total() == rounds * _ACCOUNTS


@pytest.mark.parametrize("table", ["used_challenges", "passkeys", "sessions", "events"])
async def test_37_kill_9_within_the_transaction(
    postgres_here: str,
    new_service: NewService,
    report: Report,
    chance: random.Random,
    table: str,
) -> None:
    """Every transaction waits to write to one of its tables when the service is killed."""
    service, port, url = new_service(postgres_here), free_port(), postgres_here
    running = await asyncio.to_thread(service.start, port=port)
    engine = sa.create_engine(sync_url(url), poolclass=sa.NullPool)
    async with Client(port) as client:
        proofs = [await _begin(url, client, chance, kind) for kind in _KINDS for _ in range(2)]
        with closing(engine.connect()) as connection:
            connection.execute(sa.text(f"LOCK TABLE authapi_{table} IN SHARE MODE"))
            sent = [asyncio.create_task(_complete(client, proof)) for proof in proofs]
            waiting = f"SELECT count(*) FROM pg_stat_activity WHERE {_WAITS}"
            await until(
                lambda: int(sql(url, waiting)[0][0]) >= len(proofs),
                within=30,
                what="all wait for the table",
            )
            running.process.kill()
            await asyncio.gather(*sent)
    engine.dispose()
    others = f"SELECT count(*) FROM pg_stat_activity WHERE {_OTHERS}"
    await until(lambda: sql(url, others) == [(0,)], within=30, what="no transaction is left")
    outcomes = [(proof.kind, _outcome(url, proof)) for proof in proofs]
    done = [(kind, outcome) for kind, outcome in outcomes if any(outcome.values())]
    report(f"{len(proofs)} proofs, killed before {table}: half done {len(done)}")
    assert done == []
    assert not any(proof.is_acknowledged for proof in proofs)


async def _begin(url: str, client: Client, chance: random.Random, kind: str) -> _Proof:
    owner, passkey = await register_owner(url, client, chance), SoftAuthenticator()
    if kind == "first passkey":
        # Another login, which ends with the first second factor.
        credentials = {"email": owner.email, "password": owner.password, "strategy": "token"}
        assert (await client.post("/login", credentials)).status == 200
        return _Proof(kind, owner.user_id, await addition(client, owner, passkey))
    await add_passkey(client, owner, passkey)
    request = (
        await login(client, passkey)
        if kind == "login"
        else await second_step(client, owner, passkey)
    )
    return _Proof(kind, owner.user_id, request)


async def _complete(client: Client, proof: _Proof) -> None:
    request = proof.request
    try:
        answer = await client.post(request.path, request.body, request.headers)
    except Lost:
        return
    assert answer.status in {200, 201}, answer.body
    proof.is_acknowledged = True


def _outcome(url: str, proof: _Proof) -> dict[str, bool]:
    """What has happened; all of it, or nothing."""
    user = proof.user_id if url.startswith("postgresql") else proof.user_id.replace("-", "")

    def count(query: str) -> int:
        return int(sql(url, f"SELECT count(*) FROM {query} AND user_id = '{user}'")[0][0])

    found = {"challenge": is_used(url, proof.request)}
    if proof.kind == "first passkey":
        [[mfa_since]] = sql(url, f"SELECT mfa_since FROM authapi_users WHERE id = '{user}'")
        return found | {
            "passkey": count("authapi_passkeys WHERE name = 'My phone'") == 1,
            "recovery codes": count("authapi_recovery_codes WHERE used_at IS NULL") == 10,
            "mfa_since": mfa_since is not None,
            "this login": count("authapi_sessions WHERE mfa_at IS NOT NULL") == 1,
            "the other login": count("authapi_sessions WHERE kind = 'token'") == 0,
            "event": count("authapi_events WHERE type = 'factor_added'") == 1,
        }
    if proof.kind == "second step":
        found["ticket"] = count("authapi_login_tickets WHERE attempts >= 0") == 0
    return found | {
        "passkey": count("authapi_passkeys WHERE last_used_at IS NOT NULL") == 1,
        "session": count("authapi_sessions WHERE kind = 'token'") == 1,
        "event": count("authapi_events WHERE type = 'login' AND strategy = 'token'") == 1,
    }
