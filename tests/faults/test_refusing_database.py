"""11: PostgreSQL is read-only, as after a fail-over, and the password of its role changes."""

import asyncio
import random
import secrets
import time
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.load import load
from tests.faults.harness.polling import until_answered
from tests.servers.postgres import PostgresCluster
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_SECONDS = 2.0


async def test_11_a_read_only_database(
    postgres_here: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    name = urlsplit(postgres_here).path[1:]
    service = new_service(postgres_here)
    port = (await asyncio.to_thread(service.start)).port
    reads = Counter[int]()
    async with load([port], chance) as traffic, Client(port) as client:
        alice = await Actor([client], Ledger(), chance).register()
        assert alice
        actor = Actor([client], Ledger(), chance)
        assert await actor.log_in(alice, "token")
        await traffic.ledger.wait_for_revocations(3)
        await asyncio.to_thread(_read_only, postgres_here, name, "on")
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            reads[(await client.get("/me", alice.live[0].headers)).status] += 1
            await asyncio.sleep(0.01)
        statuses = dict(traffic.ledger.statuses)
        await asyncio.to_thread(_read_only, postgres_here, name, "off")
        writable = time.monotonic()
        await traffic.ledger.wait_for_revocations(1, within=30)
        recovery = time.monotonic() - writable
    ledger = traffic.ledger
    async with Client(port) as client:
        problems = await check(client, ledger.accounts) + check_rows(postgres_here)
    report(
        f"reads {dict(reads)}, all responses {statuses}; changes again after {recovery:.2f} s; "
        f"{ledger.summary()}, lost or half done {len(problems)}, wrong responses "
        f"{len(ledger.unexpected)}, revoked accepted {len(traffic.violations)} of {traffic.tried}"
    )
    assert (problems, traffic.violations, ledger.unexpected) == ([], [], [])
    # A terminated connection may fail one read before it is replaced.
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
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    service = new_service(url)
    port = (await asyncio.to_thread(service.start)).port
    async with load([port], chance) as traffic, Client(port) as client:
        await traffic.ledger.wait_for_revocations(3)
        changed = f"ALTER ROLE {role} PASSWORD '{secrets.token_hex(16)}'"
        await asyncio.to_thread(sql, postgres_here, changed, terminate)
        response = await until_answered(lambda: client.get("/health/ready"), status=503, within=10)
        assert int(response.headers["retry-after"]) >= 1
        await asyncio.sleep(_SECONDS)
        assert (await client.get("/health/live")).status == 200
        await asyncio.to_thread(sql, postgres_here, f"ALTER ROLE {role} PASSWORD '{password}'")
        started_at = time.monotonic()
        await traffic.ledger.wait_for_revocations(1, within=30)
        recovery = time.monotonic() - started_at
    async with Client(port) as client:
        problems = await check(client, traffic.ledger.accounts) + check_rows(postgres_here)
    await asyncio.to_thread(service.stack.close)
    sql(postgres_here, f"DROP ROLE {role}")
    ledger = traffic.ledger
    report(
        f"all responses {dict(ledger.statuses)}; changes again after {recovery:.2f} s; "
        f"{ledger.summary()}, lost or half done {len(problems)}, revoked accepted "
        f"{len(traffic.violations)} of {traffic.tried}"
    )
    assert (problems, traffic.violations, ledger.unexpected) == ([], [], [])
