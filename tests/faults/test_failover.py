"""43: a primary is killed, or stops responding, and its standby is promoted.

The service has a list of hosts, or one address that leads to the other server from the promotion
on. Connections that are open stay with the old one.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from authapi.storage import migrations
from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.load import load
from tests.faults.harness.promotion import Promotion
from tests.faults.harness.proxy import Proxy
from tests.servers.postgres import PostgresCluster
from tests.servers.standby import DURABLE, Standby, frozen
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

OUTAGE = 6.0
"""Seconds until the promotion. A cluster manager takes longer."""
BOUND = 2.0
"""Seconds after the promotion from which all answers are good."""

_ANSWERED_WITHIN = 2 * 5 + 1
"""Seconds: a ping or statement that has no response, and a new connection, with the default of
`AUTHAPI_DATABASE_TIMEOUT`."""
_MARGIN = 4.0
_CONNECT_TIMEOUT = 5
"""Seconds until an attempt to connect ends that the frozen server has accepted and not answered."""


@pytest.fixture
def servers() -> Iterator[tuple[PostgresCluster, Standby]]:
    """A primary with the database ``failover``, and its synchronous standby."""
    with ExitStack() as stack:
        primary = stack.enter_context(PostgresCluster(DURABLE))
        migrations.upgrade(primary.create_database("failover"))
        standby = Standby(primary)
        stack.callback(standby.close)
        standby.follow()
        yield primary, standby


@pytest.mark.parametrize(
    ("fault", "way"), [("frozen", "hosts"), ("killed", "hosts"), ("frozen", "moved")]
)
async def test_43_promotion_of_a_standby(
    servers: tuple[PostgresCluster, Standby],
    fault: str,
    way: str,
    new_service: NewService,
    report: Report,
    chance: random.Random,
) -> None:
    primary, standby = servers
    hosts, target = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}", [primary.port]
    async with AsyncExitStack() as stack:
        if way == "moved":
            proxy = await stack.enter_async_context(Proxy(lambda: target))
            hosts = f"127.0.0.1:{proxy.port}"
        service = new_service(f"postgresql://postgres:{primary.password}@{hosts}/failover")
        ports = [running.port for running in await asyncio.to_thread(service.start_many, 2)]
        async with load(ports, chance) as traffic, Client(ports[0], 30) as client:
            account = await Actor([client], Ledger(), chance).register()
            assert account is not None
            body = {"email": account.email, "password": account.password}
            await traffic.ledger.wait_for_revocations(5)
            if fault == "frozen":
                stack.enter_context(frozen(primary))
            else:
                primary.kill()
            await asyncio.sleep(OUTAGE)
            await asyncio.to_thread(standby.promote)
            target[:] = [standby.port]
            promotion = Promotion(time.monotonic())
            await promotion.log_in(client, body, seconds=BOUND + _CONNECT_TIMEOUT + 3)
        url = standby.url("failover")
        async with Client(ports[0]) as client:
            problems = await check(client, traffic.ledger.accounts) + check_rows(url)
        assert sql(url, "SELECT pg_is_in_recovery()") == [(False,)]
    ledger, last_error = traffic.ledger, promotion.last_error(traffic)
    report(promotion.summary(traffic, problems))
    assert (problems, traffic.violations, ledger.unexpected) == ([], [], [])
    assert last_error < (BOUND if way == "hosts" else _CONNECT_TIMEOUT + BOUND)
    assert ledger.slowest < _ANSWERED_WITHIN + _MARGIN
