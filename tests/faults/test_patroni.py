"""47: Patroni promotes a standby by itself, with the files of deploy/."""

import asyncio
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from authapi.storage import migrations
from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor
from tests.faults.harness.checker import check, check_rows
from tests.faults.harness.figures import SCALE
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.load import load
from tests.faults.harness.promotion import Promotion, wait_for_promotion
from tests.proxies.testbed.programs import program
from tests.servers.patroni import Etcd, PatroniNode
from tests.servers.process import ServeProcess, free_port
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

BOUND = 2.0
"""Seconds after the promotion from which all answers are good."""
_ANSWERED_WITHIN = 2 * 5 + 1
"""Seconds: a ping or statement that has no response, and a new connection, with the default of
`AUTHAPI_DATABASE_TIMEOUT`."""
_MARGIN = 4.0
_TTL = 20
"""Seconds that the lock of a primary lasts without being renewed (deploy/patroni.yml)."""
_AFTER = 6.0
"""Seconds that the load goes on beside an old primary that is no longer frozen."""
_HAPROXY = Path(__file__).parents[2] / "deploy" / "haproxy-patroni.cfg"


@pytest.fixture
def nodes() -> Iterator[tuple[PatroniNode, PatroniNode]]:
    """A primary with the database ``failover``, and its synchronous standby."""
    with ExitStack() as stack:
        etcd = stack.enter_context(Etcd())
        primary = stack.enter_context(PatroniNode(etcd, "db1", "primary"))
        standby = stack.enter_context(PatroniNode(etcd, "db2"))
        with psycopg.connect(primary.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE failover TEMPLATE template0")
        migrations.upgrade(_database(primary))
        yield primary, standby
        for node in (primary, standby):
            print(f"{node.name}:\n{node.log()}")  # noqa: T201  # pytest shows it with the failure


@pytest.mark.parametrize(
    ("fault", "way"),
    [("killed", "hosts"), ("frozen", "hosts"), *([("frozen", "haproxy")] if SCALE > 1 else [])],
)
async def test_47_patroni_promotes_a_standby(
    nodes: tuple[PatroniNode, PatroniNode],
    fault: str,
    way: str,
    new_service: NewService,
    report: Report,
    chance: random.Random,
    tmp_path: Path,
) -> None:
    primary, standby = nodes
    with ExitStack() as stack:
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        if way == "haproxy":
            addresses = [stack.enter_context(_balanced(nodes, tmp_path))]
        url = f"postgresql://postgres:{primary.password}@{','.join(addresses)}/failover"
        service = new_service(url)
        ports = [running.port for running in await asyncio.to_thread(service.start_many, 2)]
        async with load(ports, chance) as traffic, Client(ports[0], 30) as client:
            account = await Actor([client], Ledger(), chance).register()
            assert account is not None
            body = {"email": account.email, "password": account.password}
            await traffic.ledger.wait_for_revocations(5)
            with ExitStack() as freezing:
                if fault == "killed":
                    await asyncio.to_thread(primary.crash)
                else:
                    await asyncio.to_thread(freezing.enter_context, primary.frozen())
                at = await asyncio.to_thread(wait_for_promotion, standby.url, within=3 * _TTL)
                promotion = Promotion(at)
                await promotion.log_in(client, body, seconds=BOUND + 4)
            # The old primary goes on, and does not know yet that it is none any more.
            revocations = traffic.ledger.revocations
            if fault == "frozen":
                await asyncio.sleep(_AFTER)
            assert fault == "killed" or traffic.ledger.revocations > revocations
        async with Client(ports[0]) as client:
            url = _database(standby)
            problems = await check(client, traffic.ledger.accounts) + check_rows(url)
        assert sql(url, "SELECT pg_is_in_recovery()") == [(False,)]
    ledger, last_error = traffic.ledger, promotion.last_error(traffic)
    report(promotion.summary(traffic, problems))
    assert (problems, traffic.violations, ledger.unexpected) == ([], [], [])
    assert last_error < BOUND
    assert ledger.slowest < _ANSWERED_WITHIN + _MARGIN


def _database(node: PatroniNode) -> str:
    return node.url.removesuffix("postgres") + "failover"


def _through(node: PatroniNode, port: int) -> str:
    return _database(node).replace(f":{node.port}/", f":{port}/")


@contextmanager
def _balanced(nodes: Sequence[PatroniNode], folder: Path) -> Iterator[str]:
    """The address of HAProxy, with the file of deploy/ and the ports of these nodes."""
    port, text = free_port(), _HAPROXY.read_text("utf-8")
    text = text.replace("127.0.0.1:5432", f"127.0.0.1:{port}")
    for number, node in enumerate(nodes, 1):
        text = text.replace(
            f"10.0.0.{number}:5432 port 8008", f"127.0.0.1:{node.port} port {node.rest_port}"
        )
    text = re.sub(r"^ +server .* 10\..*\n", "", text, flags=re.MULTILINE)
    file = folder / "haproxy.cfg"
    file.write_text(text, "utf-8")
    command = [program("haproxy"), "-db", "-f", str(file)]
    with ServeProcess(command, {"PATH": os.environ["PATH"]}, folder) as process:
        deadline = time.monotonic() + 30
        # HAProxy leads connections to each server in turn, until a check has failed.
        primaries = 0
        while primaries < 4:
            try:
                is_standby = sql(_through(nodes[0], port), "SELECT pg_is_in_recovery()")
                primaries = primaries + 1 if is_standby == [(False,)] else 0
            except psycopg.OperationalError:
                primaries = 0
            assert time.monotonic() < deadline, process.output()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
