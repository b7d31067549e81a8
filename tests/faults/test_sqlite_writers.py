"""33: eight processes write to one SQLite file, and none gets a `locked` error."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import check, check_rows, integrity
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.http_client import Client
from tests.faults.harness.load import load

pytestmark = pytest.mark.faults

_PROCESSES = 8
_CHECKPOINT = 1000 * 4096
"""Size of the write-ahead log at which SQLite runs a checkpoint."""


async def test_33_eight_writers(
    sqlite_url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, seconds = new_service(sqlite_url), scaled(10, 60)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    ports, wal_sizes = [process.port for process in running], list[int]()
    async with load(ports, chance, actors=16, bound=0.006) as traffic:
        for _ in range(seconds * 10):
            await asyncio.sleep(0.1)
            wal_sizes.append(log_size(sqlite_url))
    async with Client(ports[0]) as client:
        problems = await check(client, traffic.ledger.accounts) + check_rows(sqlite_url)
    logs = "".join(process.process.output() for process in running)
    ledger = traffic.ledger
    report(
        f"{seconds} s, {ledger.summary()}, {ledger.acknowledged / seconds:.0f} writes/s; 503 "
        f"{ledger.statuses[503]}, 'locked' in the logs {logs.count('locked')}; GET /me "
        f"{spread([duration for _, duration, _ in traffic.latencies])}; WAL max "
        f"{max(wal_sizes) / 1e6:.1f} MB; lost or half done {len(problems)}, revoked accepted "
        f"{len(traffic.violations)} of {traffic.tried}; integrity_check {integrity(sqlite_url)}"
    )
    assert (problems, traffic.violations, ledger.unexpected) == ([], [], [])
    assert (ledger.statuses[503], ledger.lost, logs.count("locked")) == (0, 0, 0)
    assert integrity(sqlite_url) == "ok"
    assert max(wal_sizes) < 4 * _CHECKPOINT


def log_size(url: str) -> int:
    """Returns the size of the write-ahead log in bytes."""
    log = Path(f"{url.removeprefix('sqlite:///')}-wal_sizes")
    return log.stat().st_size if log.exists() else 0
