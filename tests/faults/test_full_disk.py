"""10: with a full disk SQLite refuses changes only, and recovers when there is space."""

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
from tests.faults.harness.checker import check, check_rows, integrity
from tests.faults.harness.disk import DISKS, Disk
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Account, Ledger

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("make_disk", DISKS)
async def test_10_full_disk(
    make_disk: Callable[[Path], AbstractContextManager[Disk]],
    new_service: NewService,
    report: Report,
    tmp_path: Path,
    chance: random.Random,
) -> None:
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(make_disk(tmp_path / "disk"))
        except PermissionError as error:
            report(f"not possible here ({str(error).strip()}): see the other method")
            pytest.skip("may not mount: covered by the limit on the size of files")
        service = new_service(f"sqlite:///{disk.directory / 'authapi.db'}")
        stack.callback(service.stack.close)  # before the file system is unmounted
        running = await asyncio.to_thread(service.start)
        async with Client(running.port) as client:
            ledger = Ledger()
            actor = Actor([client], ledger, chance)
            accounts = [await _create_account(actor) for _ in range(scaled(3, 30))]
            await asyncio.to_thread(disk.fill, running.process.pid)
            changes, reads, logins = await _while_full(client, actor, accounts)
            full = f"changes {_format(changes)}, reads {_format(reads)}, logins {_format(logins)}"
            await asyncio.to_thread(disk.free, running.process.pid)
            freed = time.monotonic()
            while await actor.register() is None:
                assert time.monotonic() < freed + 30, "no recovery"
            recovery = time.monotonic() - freed
            problems = await check(client, ledger.accounts) + check_rows(service.database_url)
            ok = integrity(service.database_url)
    report(
        f"while full: {full}; then writing again after {recovery:.2f} s without a restart; "
        f"{ledger.summary()}, lost or half done {len(problems)}, integrity_check {ok}"
    )
    assert set(reads) == {200, 401}
    assert set(changes) <= {201, 503}
    assert changes[503] > 0
    assert set(logins) <= {200, 503}
    assert (problems, ledger.unexpected, ok) == ([], [], "ok")


async def _create_account(actor: Actor) -> Account:
    account = await actor.register()
    assert account
    for strategy in ("token", "jwt"):
        assert await actor.log_in(account, strategy)
    return account


async def _while_full(
    client: Client, actor: Actor, accounts: list[Account]
) -> tuple[Counter[int], Counter[int], Counter[int]]:
    """Returns the statuses of changes, reads and logins."""
    changes, reads, logins = Counter[int](), Counter[int](), Counter[int]()
    for _ in range(20):  # free pages of the file may take a few more changes
        changes[201 if await actor.register() else 503] += 1
    for account in accounts:
        for credential in account.live:
            # The first from the database, the second from the cache.
            for _ in range(2):
                reads[(await client.get("/me", credential.headers)).status] += 1
        unknown_token = {"Authorization": f"Bearer {'x' * 40}"}
        reads[(await client.get("/me", unknown_token)).status] += 1
        body = {"email": account.email, "password": account.password, "strategy": "token"}
        logins[(await client.post("/login", body)).status] += 1
        wrong = await client.post("/login", {**body, "password": new_password()})
        assert wrong.status in {401, 503}, wrong
    return changes, reads, logins


def _format(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
