"""2: after a power failure, SQLite has every acknowledged change."""

import asyncio
import random
import shutil
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.checker import check, check_rows, integrity
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.load import load
from tests.faults.harness.power import Loss, Recorder, after_power_loss
from tests.storage.rows import sql

pytestmark = pytest.mark.faults


async def test_02_power_loss(
    sqlite_url: str, new_service: NewService, report: Report, chance: random.Random, tmp_path: Path
) -> None:
    template = Path(sqlite_url.removeprefix("sqlite:///"))
    facts, lost, problems = Counter[str](), Counter[str](), Counter[str]()
    checks, found = set[str](), list[str]()
    for number in range(scaled(1, 30)):
        folder, before = tmp_path / f"disk_{number}", tmp_path / f"before_{number}"
        before.mkdir()
        shutil.copy(template, before / "authapi.db")
        shutil.copytree(before, folder)
        place = tmp_path / f"recorder_{number}"
        place.mkdir()
        try:
            recorder = Recorder.build(folder, place)
        except FileNotFoundError as error:
            report(f"not possible here: {error}")
            pytest.skip("no C compiler: test 1 kills the process, without the loss of writes")
        ledger = await _work(new_service, recorder, chance)
        facts.update(ledger.facts)
        kinds: tuple[Loss, ...] = ("everything", "anything", "synced too")
        for loss in kinds:
            target = tmp_path / f"{loss.replace(' ', '_')}_{number}"
            lost[loss] += after_power_loss(recorder, before, target, loss, chance)
            url = f"sqlite:///{target / 'authapi.db'}"
            if loss != "synced too":
                checks.add(integrity(url))
                texts = await _problems(new_service, url, ledger)
                problems[loss] += len(texts)
                found += texts
            else:
                # All that was acknowledged is missing: this test would notice.
                ((accounts,),) = sql(url, "SELECT count(*) FROM authapi_users")
                problems[loss] += ledger.facts["register"] - accounts
    report(
        f"{facts.total()} facts acknowledged, then the power fails; writes dropped {dict(lost)}; "
        f"lost or half done {dict(problems)}; integrity_check {checks}"
    )
    assert found == []
    assert checks == {"ok"}
    assert facts["register"] > 0
    assert problems["synced too"] == facts["register"]


async def _work(new_service: NewService, recorder: Recorder, chance: random.Random) -> Ledger:
    """Changes accounts, and kills the service in the middle of it."""
    service = new_service(
        f"sqlite:///{recorder.folder / 'authapi.db'}", extra=dict(recorder.environment)
    )
    running = await asyncio.to_thread(service.start)
    async with load([running.port], chance) as background:
        await background.ledger.wait_for_revocations(5)
        await asyncio.sleep(chance.uniform(0, 0.5))
        running.process.kill()
    return background.ledger


async def _problems(new_service: NewService, url: str, ledger: Ledger) -> list[str]:
    """What is missing, or half done, in the files after the power failure."""
    service = new_service(url)
    running = await asyncio.to_thread(service.start)
    async with Client(running.port) as client:
        # A check uses up refresh tokens, and there is one for each loss.
        found = await check(client, deepcopy(ledger.accounts))
    service.stack.close()
    return found + check_rows(url)
