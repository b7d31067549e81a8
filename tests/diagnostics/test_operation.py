"""`authapi doctor` on how a service has been running, on both databases."""

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import time_machine

from authapi.clock import now
from authapi.diagnostics import operation
from authapi.diagnostics.operation import check_disk, check_operation, file_system_of
from authapi.diagnostics.subject import Subject
from authapi.domain.client import Client
from authapi.domain.email_address import parse_email
from authapi.domain.monitoring.findings import Finding
from authapi.services import Services
from authapi.settings import Settings
from tests.storage.rows import sql, store_login

Check = Callable[..., dict[str, Finding]]


@pytest.fixture
def check(database_url: str) -> Check:
    """Runs the check with settings; returns the findings by what they are about."""

    def run(**changes: object) -> dict[str, Finding]:
        settings = Settings.isolated(database_url=database_url, **changes)
        found = list(check_operation(Subject(settings, partial(Services.build, settings))))
        return {item.check: item for item in found}

    return run


async def open_once(url: str) -> None:
    services = Services.build(Settings.isolated(database_url=url, secret="0f1e2d3c4b5a6978" * 2))
    await services.open()
    await services.stop()


def test_an_idle_service_has_no_warning(check: Check, database_url: str) -> None:
    asyncio.run(open_once(database_url))
    found = check()
    assert {item.verdict for item in found.values()} == {"ok"}
    assert found["outbox"].message == "0 waiting, none given up"


def test_connections_of_all_processes_must_fit(postgres_url: str) -> None:
    settings = Settings.isolated(database_url=postgres_url)
    subject = Subject(settings, partial(Services.build, settings))
    [found] = [item for item in check_operation(subject) if item.check == "connections"]
    assert found.verdict == "ok"
    assert "and 1 x 11 may be open" in found.message
    settings = Settings.isolated(database_url=postgres_url, workers=4, database_pool_size=1000)
    subject = Subject(settings, partial(Services.build, settings))
    [found] = [item for item in check_operation(subject) if item.check == "connections"]
    assert found.verdict == "warning"
    assert "4 x 1001" in found.fact
    assert "AUTHAPI_DATABASE_POOL_SIZE" in str(found.remedy)


def test_a_late_rotation_is_found(check: Check, database_url: str) -> None:
    asyncio.run(open_once(database_url))
    assert "key rotation" not in check(key_rotation="60d")
    with time_machine.travel(now() + timedelta(days=200)):
        found = check(key_rotation="60d")["key rotation"]
    assert found.verdict == "warning"
    assert "days late" in found.message


def test_undelivered_entries_are_found(check: Check, database_url: str) -> None:
    async def invite() -> None:
        settings = Settings.isolated(
            database_url=database_url, secret="0f1e2d3c4b5a6978" * 2, mail_url="console:"
        )
        services = Services.build(settings)
        await services.open()
        await services.accounts.administration.invite(parse_email("a@example.com"), name=None)
        await services.stop()

    asyncio.run(invite())
    assert check()["outbox"].message == "1 waiting, none given up"
    with time_machine.travel(now() + timedelta(days=3)):
        late = check()["outbox"]
    assert (late.verdict, late.fact) == ("warning", "an entry of the outbox has waited for 3 days")
    sql(database_url, "UPDATE authapi_outbox SET failed_at = created_at")
    found = check()["outbox"]
    assert found.verdict == "warning"
    assert found.fact == "1 entry of the outbox given up (mail)"
    assert found.remedy == "see authapi mail list"


def test_events_that_stay_too_long_are_found(check: Check, database_url: str) -> None:
    assert "cleanup" not in check()
    asyncio.run(store_login(database_url, Client(), at=now() - timedelta(days=20)))
    assert check(events_retention="20d")["cleanup"].verdict == "ok"
    found = check(events_retention="10d")["cleanup"]
    assert (found.verdict, found.fact) == ("warning", "events are kept 10 days too long")


def test_the_size_of_the_events_is_compared_with_their_retention(
    check: Check, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(store_login(database_url, Client(), at=now()))
    found = check(events_retention="20d")["events"]
    assert found.verdict == "ok"
    assert re.fullmatch(r"events of 20 days take \d[\d.]* [KM]iB", found.message)
    monkeypatch.setattr(operation, "_LARGE", 4096)
    found = check(events_retention="20d")["events"]
    assert found.verdict == "warning"
    assert "AUTHAPI_EVENTS_RETENTION" in str(found.remedy)


def test_a_database_that_is_away_has_no_finding_here() -> None:
    settings = Settings.isolated(database_url="postgresql://127.0.0.1:1/x")
    assert list(check_operation(Subject(settings, partial(Services.build, settings)))) == []


def test_room_for_an_embedded_database(tmp_path: Path) -> None:
    settings = Settings.isolated(data_dir=tmp_path / "data")
    subject = Subject(settings, partial(Services.build, settings))
    [found] = check_disk(subject, free=lambda _: 300 * 2**20)
    assert (found.verdict, found.message) == ("ok", f"300 MiB free in {tmp_path}")
    [found] = check_disk(subject, free=lambda _: 100 * 2**20)
    assert (found.verdict, found.fact) == ("warning", f"100 MiB free in {tmp_path}")
    settings = Settings.isolated(database_url="postgresql://127.0.0.1:1/x")
    assert list(check_disk(Subject(settings, partial(Services.build, settings)))) == []


def test_a_network_file_system_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr("authapi.diagnostics.operation._MOUNTS", mounts)
    settings = Settings.isolated(data_dir=tmp_path / "data")
    subject = Subject(settings, partial(Services.build, settings))
    found, _ = check_disk(subject)
    assert found.verdict == "warning"
    assert "network file system (nfs4)" in found.message


def test_the_nearest_mount_point_counts() -> None:
    mounts = [("/", "ext4"), ("/mnt/data", "cifs"), ("/mnt", "xfs")]
    assert file_system_of(Path("/mnt/data/x"), mounts) == "cifs"
    assert file_system_of(Path("/mnt/database"), mounts) == "xfs"
    assert file_system_of(Path("/home"), mounts) == "ext4"
    assert file_system_of(Path("/home"), []) is None
