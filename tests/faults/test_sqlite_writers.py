"""33: eight processes write to one SQLite file, and none is told that it is locked."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import audit, check, integrity
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.load import load
from tests.faults.harness.wire import Client

pytestmark = pytest.mark.faults

_PROCESSES = 8
_CHECKPOINT = 1000 * 4096
"""Bytes after which SQLite writes its log back into the file."""


async def test_33_eight_writers(
    sqlite_url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, seconds = new_service(sqlite_url), scaled(10, 60)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    ports, wal = [process.port for process in running], list[int]()
    async with load(ports, chance, actors=16, bound=0.006) as going:
        for _ in range(seconds * 10):
            await asyncio.sleep(0.1)
            wal.append(log_size(sqlite_url))
    async with Client(ports[0]) as client:
        problems = await check(client, going.ledger.accounts) + audit(sqlite_url)
    said = "".join(process.process.output() for process in running)
    ledger = going.ledger
    report(
        f"{seconds} s, {ledger.summary()}, {ledger.acknowledged / seconds:.0f} writes/s; 503 "
        f"{ledger.statuses[503]}, 'locked' in the logs {said.count('locked')}; GET /me "
        f"{spread([took for _, took, _ in going.latencies])}; WAL max {max(wal) / 1e6:.1f} MB; "
        f"lost or half done {len(problems)}, revoked accepted {len(going.revived)} of "
        f"{going.tried}; integrity_check {integrity(sqlite_url)}"
    )
    assert (problems, going.revived, ledger.wrong) == ([], [], [])
    assert (ledger.statuses[503], ledger.lost, said.count("locked")) == (0, 0, 0)
    assert integrity(sqlite_url) == "ok"
    assert max(wal) < 4 * _CHECKPOINT


def log_size(url: str) -> int:
    """Bytes that SQLite has not written back into the file yet."""
    log = Path(f"{url.removeprefix('sqlite:///')}-wal")
    return log.stat().st_size if log.exists() else 0
