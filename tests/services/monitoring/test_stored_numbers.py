"""Numbers of rows for the metrics: right on both databases, and counted by one worker."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from authapi.clock import now
from authapi.services.metrics import Metrics
from authapi.services.monitoring.stored_numbers import StoredNumbers
from tests.services.operations import Harness, open_harness


def gauges(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def give_up_one(harness: Harness) -> None:
    services = harness.services
    async with services.database.transaction() as store:
        [entry, *_] = await store.outbox.page("mail", limit=1)
        await store.outbox.mark_failed(entry, at=now(), error="refused")


async def test_rows_are_counted(database_url: str) -> None:
    async with open_harness(database_url) as harness:
        services = harness.services
        person = await harness.person()
        await harness.person()
        for _ in range(2):
            await services.accounts.administration.send_reset_link(person.id)
        await give_up_one(harness)
        metrics = Metrics({})
        await StoredNumbers(services.database, metrics, services.settings).count()
        found = gauges(metrics)
    for kind in ("session", "token", "jwt", "personal"):
        assert found[f'authapi_sessions{{kind="{kind}"}}'] == 2
    assert found['authapi_outbox_entries{kind="mail",state="given_up"}'] == 1
    assert found['authapi_outbox_entries{kind="mail",state="waiting"}'] >= 1
    assert found['authapi_outbox_entries{kind="request",state="waiting"}'] == 0
    assert 0 < found['authapi_outbox_oldest_seconds{kind="mail"}'] < 60
    assert found['authapi_outbox_oldest_seconds{kind="webhook"}'] == 0
    assert 0 < found["authapi_signing_key_age_seconds"] < 60
    [info] = [name for name in found if name.startswith("authapi_info")]
    assert 'version="' in info
    assert ("SQLite" if database_url.startswith("sqlite") else "PostgreSQL") in info


async def test_what_is_gone_counts_zero(sqlite_url: str) -> None:
    async with open_harness(sqlite_url) as harness:
        services = harness.services
        person = await harness.person()
        await services.accounts.administration.send_reset_link(person.id)
        metrics = Metrics({})
        numbers = StoredNumbers(services.database, metrics, services.settings)
        await numbers.count()
        await services.accounts.deletion.delete(person.id)
        await numbers.count()
    found = gauges(metrics)
    assert found['authapi_sessions{kind="session"}'] == 0
    assert found['authapi_outbox_entries{kind="mail",state="waiting"}'] == 0
    assert found['authapi_outbox_oldest_seconds{kind="mail"}'] == 0


_WORKER = """
import sys
from authapi.services.metrics import Metrics

metrics = Metrics({})
for line in sys.stdin:
    may_count = metrics.may_count()
    if may_count:
        metrics.set_sessions({"session": int(line)})
        metrics.set_key_age(int(line))
    print(may_count, flush=True)
"""


def test_one_of_several_workers_counts_and_another_follows(tmp_path: Path) -> None:
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def worker() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WORKER)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(process: subprocess.Popen[str], number: int) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def scraped() -> set[str]:
        code = (
            "from authapi.services.metrics import generate_latest, registry_of_workers;"
            "print(generate_latest(registry_of_workers()).decode())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return set(done.stdout.splitlines())

    with worker() as one, worker() as two:
        assert ask(one, 5) == "True"
        assert ask(two, 7) == "False"
        assert {'authapi_sessions{kind="session"} 5.0', "authapi_signing_key_age_seconds 5.0"} <= (
            scraped()
        )
        one.kill()
        one.wait()
        assert ask(two, 7) == "True"
        assert {'authapi_sessions{kind="session"} 7.0', "authapi_signing_key_age_seconds 7.0"} <= (
            scraped()
        )
        two.kill()


async def test_a_failure_is_one_line_and_tried_again(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_harness(sqlite_url) as harness:
        numbers = StoredNumbers(harness.services.database, Metrics({}), harness.services.settings)
        numbers._log_failure(ValueError("x"))
    [record] = [it for it in caplog.records if "will retry" in it.getMessage()]
    assert record.exc_info is not None
