"""11: PostgreSQL only takes reads, as after a fail-over; and its role gets another password."""

import asyncio
import random
import secrets
import time
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import audit, check
from tests.faults.harness.facts import Ledger
from tests.faults.harness.load import load
from tests.faults.harness.waiting import until_answered
from tests.faults.harness.wire import Client
from tests.servers.postgres import PostgresCluster
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_SECONDS = 2.0


async def test_11_a_database_that_only_reads(
    postgres_here: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    name = urlsplit(postgres_here).path[1:]
    service = new_service(postgres_here)
    port = (await asyncio.to_thread(service.start)).port
    reads = Counter[int]()
    async with load([port], chance) as going, Client(port) as client:
        someone = await Actor([client], Ledger(), chance).registered()
        assert someone
        actor = Actor([client], Ledger(), chance)
        assert await actor.log_in(someone, "token")
        await going.ledger.more_revocations(3)
        await asyncio.to_thread(_read_only, postgres_here, name, "on")
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            reads[(await client.get("/me", someone.live[0].headers)).status] += 1
            await asyncio.sleep(0.01)
        statuses = dict(going.ledger.statuses)
        await asyncio.to_thread(_read_only, postgres_here, name, "off")
        writable = time.monotonic()
        await going.ledger.more_revocations(1, within=30)
        recovery = time.monotonic() - writable
    ledger = going.ledger
    async with Client(port) as client:
        problems = await check(client, ledger.accounts) + audit(postgres_here)
    report(
        f"reads {dict(reads)}, all answers {statuses}; changes again after {recovery:.2f} s; "
        f"{ledger.summary()}, lost or half done {len(problems)}, wrong answers "
        f"{len(ledger.wrong)}, revoked accepted {len(going.revived)} of {going.tried}"
    )
    assert (problems, going.revived, ledger.wrong) == ([], [], [])
    # A connection that was cut off may fail one read before its successor is there.
    assert reads[200] > 10 * sum(n for status, n in reads.items() if status != 200)
    assert set(reads) <= {200, 503}


def _read_only(url: str, name: str, value: str) -> None:
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    sql(
        url,
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {name} SET default_transaction_read_only = {value}",
        others,
    )


async def test_11_a_changed_password_of_the_role(
    cluster: PostgresCluster,
    postgres_here: str,
    new_service: NewService,
    report: Report,
    chance: random.Random,
) -> None:
    parts = urlsplit(postgres_here)
    role, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(16)
    sql(postgres_here, f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'")
    url = postgres_here.replace(f"{parts.username}:{parts.password}@", f"{role}:{password}@")
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    service = new_service(url)
    port = (await asyncio.to_thread(service.start)).port
    async with load([port], chance) as going, Client(port) as client:
        await going.ledger.more_revocations(3)
        changed = f"ALTER ROLE {role} PASSWORD '{secrets.token_hex(16)}'"
        await asyncio.to_thread(sql, postgres_here, changed, cut)
        answer = await until_answered(lambda: client.get("/health/ready"), status=503, within=10)
        assert int(answer.headers["retry-after"]) >= 1
        await asyncio.sleep(_SECONDS)
        assert (await client.get("/health/live")).status == 200
        await asyncio.to_thread(sql, postgres_here, f"ALTER ROLE {role} PASSWORD '{password}'")
        began = time.monotonic()
        await going.ledger.more_revocations(1, within=30)
        recovery = time.monotonic() - began
    async with Client(port) as client:
        problems = await check(client, going.ledger.accounts) + audit(postgres_here)
    await asyncio.to_thread(service.stack.close)
    sql(postgres_here, f"DROP ROLE {role}")
    ledger = going.ledger
    report(
        f"all answers {dict(ledger.statuses)}; changes again after {recovery:.2f} s; "
        f"{ledger.summary()}, lost or half done {len(problems)}, revoked accepted "
        f"{len(going.revived)} of {going.tried}"
    )
    assert (problems, going.revived, ledger.wrong) == ([], [], [])
