"""10: no room for SQLite: changes are refused and nothing else, and all is well once there is."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import Actor, new_password
from tests.faults.harness.checker import audit, check, integrity
from tests.faults.harness.disk import DISKS, Disk
from tests.faults.harness.facts import Account, Ledger
from tests.faults.harness.figures import scaled
from tests.faults.harness.wire import Client

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("make", DISKS)
async def test_10_full_disk(
    make: Callable[[Path], AbstractContextManager[Disk]],
    new_service: NewService,
    report: Report,
    tmp_path: Path,
    chance: random.Random,
) -> None:
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(make(tmp_path / "disk"))
        except PermissionError as error:
            report(f"not possible here ({str(error).strip()}): see the other way")
            pytest.skip("may not mount; the limit on the size of files stands in")
        service = new_service(f"sqlite:///{disk.directory / 'authapi.db'}")
        stack.callback(service.stack.close)  # before the file system goes
        running = await asyncio.to_thread(service.start)
        async with Client(running.port) as client:
            ledger = Ledger()
            actor = Actor([client], ledger, chance)
            people = [await _someone(actor) for _ in range(scaled(3, 30))]
            await asyncio.to_thread(disk.fill, running.process.pid)
            changes, reads, logins = await _while_full(client, actor, people)
            full = f"changes {_told(changes)}, reads {_told(reads)}, logins {_told(logins)}"
            await asyncio.to_thread(disk.free, running.process.pid)
            freed = time.monotonic()
            while await actor.registered() is None:
                assert time.monotonic() < freed + 30, "no recovery"
            recovery = time.monotonic() - freed
            problems = await check(client, ledger.accounts) + audit(service.database_url)
            ok = integrity(service.database_url)
    report(
        f"while full: {full}; then writing again after {recovery:.2f} s without a restart; "
        f"{ledger.summary()}, lost or half done {len(problems)}, integrity_check {ok}"
    )
    assert set(reads) == {200, 401}
    assert set(changes) <= {201, 503}
    assert changes[503] > 0
    assert set(logins) <= {200, 503}
    assert (problems, ledger.wrong, ok) == ([], [], "ok")


async def _someone(actor: Actor) -> Account:
    account = await actor.registered()
    assert account
    for strategy in ("token", "jwt"):
        assert await actor.log_in(account, strategy)
    return account


async def _while_full(
    client: Client, actor: Actor, people: list[Account]
) -> tuple[Counter[int], Counter[int], Counter[int]]:
    """What changes, reads and logins are answered."""
    changes, reads, logins = Counter[int](), Counter[int](), Counter[int]()
    for _ in range(20):  # what SQLite has in its file already may take a few more changes
        changes[201 if await actor.registered() else 503] += 1
    for account in people:
        for credential in account.live:
            # The first time of the database, then of memory.
            for _ in range(2):
                reads[(await client.get("/me", credential.headers)).status] += 1
        stranger = {"Authorization": f"Bearer {'x' * 40}"}
        reads[(await client.get("/me", stranger)).status] += 1
        body = {"email": account.email, "password": account.password, "strategy": "token"}
        logins[(await client.post("/login", body)).status] += 1
        wrong = await client.post("/login", {**body, "password": new_password()})
        assert wrong.status in {401, 503}, wrong
    return changes, reads, logins


def _told(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
