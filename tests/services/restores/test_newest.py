"""A start notices that the database is older than this host, or Valkey, has seen it."""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from authapi.clock import now
from authapi.services import Services
from authapi.services.restores import AllSessions, EventReplay, describe_restore
from authapi.settings import Settings
from tests.servers.process import free_port
from tests.servers.valkey import ValkeyServer
from tests.services.operations import create_person, new_address
from tests.services.restores.test_experiment import backup

WARNING = "the database is older than this host has seen it"


@asynccontextmanager
async def started(url: str, folder: Path, **changes: Any) -> AsyncIterator[Services]:
    chosen = {"login_identifier": "both", "secret": "x" * 40, **changes}
    if not folder.parent.is_file():
        folder.mkdir(exist_ok=True)  # noqa: ASYNC240  # quick
    settings = Settings(database_url=url, data_dir=folder, **chosen)  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.start()
    try:
        yield services
    finally:
        await services.stop()


async def prepare(url: str, folder: Path, **changes: Any) -> None:
    """Makes a backup, goes on, and restores it."""
    async with started(url, folder, **changes) as services:
        await create_person(services, confirmed=True)
    restore = backup(url)
    async with started(url, folder, **changes) as services:
        await create_person(services, confirmed=True)
    restore()


def remembered(folder: Path) -> list[Path]:
    """Returns the files that remember the newest event."""
    return [*folder.glob("newest-event-*")]


def is_warned(caplog: pytest.LogCaptureFixture) -> bool:
    found = [record for record in caplog.records if record.getMessage().startswith(WARNING)]
    caplog.clear()
    assert all(record.levelno == logging.WARNING for record in found)
    assert all("\n" not in record.getMessage() for record in found)
    return bool(found)


async def test_a_restored_database_is_noticed_until_something_is_done(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await prepare(database_url, tmp_path)
    assert not is_warned(caplog)
    for _ in range(2):  # each start, also after changes that are newer
        async with started(database_url, tmp_path) as services:
            assert is_warned(caplog)
            line = await describe_restore(services.database, services.settings)
            assert line is not None
            assert "`authapi events reapply FILE --since TIME`" in line
            assert "`authapi sessions end --all`" in line
            await create_person(services, confirmed=True)
    async with started(database_url, tmp_path) as services:
        await AllSessions(services.database, services.audit).end()
        assert await describe_restore(services.database, services.settings) is None
    caplog.clear()
    for _ in range(2):
        async with started(database_url, tmp_path) as services:
            assert not is_warned(caplog)
            await create_person(services, confirmed=True)
    [path] = remembered(tmp_path)
    assert json.loads(path.read_text())["older"] is False  # a small file


async def test_a_replay_counts_as_well(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await prepare(sqlite_url, tmp_path)
    async with started(sqlite_url, tmp_path) as services:
        replay = EventReplay(services.database, services.audit, services.hooks, services.settings)
        await replay.run([], since=now())
    caplog.clear()
    async with started(sqlite_url, tmp_path):
        assert not is_warned(caplog)


@asynccontextmanager
async def command(url: str, folder: Path, **changes: Any) -> AsyncIterator[Services]:
    """The services of a command, without background tasks: they remember nothing."""
    chosen = {"login_identifier": "both", "secret": "x" * 40, **changes}
    settings = Settings(database_url=url, data_dir=folder, **chosen)  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.open()
    try:
        yield services
    finally:
        await services.stop()


async def test_nothing_is_noticed_if_the_commands_run_before_the_start(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As docs/operations.md says: both commands, then `serve`."""
    await prepare(database_url, tmp_path)
    async with command(database_url, tmp_path) as services:
        replay = EventReplay(services.database, services.audit, services.hooks, services.settings)
        await replay.run([], since=now())
        await AllSessions(services.database, services.audit).end()
    for _ in range(2):
        async with started(database_url, tmp_path) as services:
            assert not is_warned(caplog)
            assert await describe_restore(services.database, services.settings) is None
            await create_person(services, confirmed=True)


@pytest.mark.parametrize("mode", ["anonymise", "erase"])
async def test_a_restore_beneath_a_process_is_noticed(
    database_url: str, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(database_url, tmp_path, deleted_events=mode) as services:
        await create_person(services, confirmed=True)
    restore = backup(database_url)
    async with command(database_url, tmp_path, deleted_events=mode) as services:
        assert await services.newest_event.check() is None
        await create_person(services, confirmed=True)
        await services.newest_event._write()
        restore()
        if mode == "anonymise":  # with `erase`, a newer event hides what is missing
            await create_person(services, confirmed=True)
        assert not is_warned(caplog)
        await services.newest_event._write()
        assert is_warned(caplog)
        await create_person(services, confirmed=True)
        await services.newest_event._write()
        assert not is_warned(caplog)  # once
    async with started(database_url, tmp_path, deleted_events=mode) as services:
        assert is_warned(caplog)  # each start
        await AllSessions(services.database, services.audit).end()
    [path] = remembered(tmp_path)
    assert json.loads(path.read_text())["older"] is False  # a small file


async def test_the_missing_event_is_named(sqlite_url: str, tmp_path: Path) -> None:
    await prepare(sqlite_url, tmp_path)
    [path] = remembered(tmp_path)
    newest = json.loads(path.read_text())["newest"]  # a small file
    async with command(sqlite_url, tmp_path) as services:
        await create_person(services, confirmed=True)  # a newer event
        line = await describe_restore(services.database, services.settings)
    at = datetime.fromtimestamp((UUID(newest).int >> 80) / 1000, UTC)
    assert line is not None
    assert f"the event of {at:%Y-%m-%dT%H:%M:%SZ} is missing" in line


async def test_another_host_notices_it_by_valkey(
    sqlite_url: str,
    tmp_path: Path,
    valkey: ValkeyServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await prepare(sqlite_url, tmp_path / "one", redis_url=valkey.url)
    async with started(sqlite_url, tmp_path / "two", redis_url=valkey.url) as services:
        assert is_warned(caplog)
        await AllSessions(services.database, services.audit).end()
    caplog.clear()
    async with started(sqlite_url, tmp_path / "three", redis_url=valkey.url):
        assert not is_warned(caplog)
    with Redis.from_url(valkey.url) as client:
        [key] = client.keys("authapi newest event *")
        assert b'"older": false' in client.get(key)


async def test_places_that_cannot_be_used_are_left_out(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    unreachable = f"redis://127.0.0.1:{free_port()}/0"
    for _ in range(2):
        folder = tmp_path / "file" / "data"
        async with started(sqlite_url, folder, redis_url=unreachable) as services:
            await create_person(services, confirmed=True)
    assert not [record for record in caplog.records if "newest event" in record.getMessage()]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"newest": 1}', '{"newest": "x"}', "[" * 100_000, "\ud800"),
        '{"newest": "ffffffff-ffff-7fff-bfff-ffffffffffff"}',  # after the year 9999
        '{"newest": "ffffffff-ffff-7fff-bfff-ffffffffffff", "older": true}',
    ],
    ids=range(9),
)
async def test_a_damaged_file_is_replaced(
    sqlite_url: str, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(sqlite_url, tmp_path) as services:
        await create_person(services, confirmed=True)
    [path] = remembered(tmp_path)
    whole = path.read_text()  # a small file
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    async with started(sqlite_url, tmp_path) as services:
        assert not is_warned(caplog)
        await services.accounts.registration.create(new_address(), None)
    assert json.loads(path.read_text())["newest"] > json.loads(whole)["newest"]


async def test_erased_events_are_no_restore(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for mode in ("erase", "anonymise"):
        async with started(sqlite_url, tmp_path, deleted_events=mode) as services:
            await create_person(services, confirmed=True)
            person = await create_person(services, confirmed=True)
        async with started(sqlite_url, tmp_path / "other", deleted_events=mode) as services:
            await services.accounts.deletion.delete(person.id)
        async with started(sqlite_url, tmp_path, deleted_events=mode):
            assert not is_warned(caplog), mode


async def test_commands_remember_nothing(sqlite_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=sqlite_url, data_dir=tmp_path)  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.open()
    await services.accounts.registration.create(new_address(), None)
    await services.stop()
    assert remembered(tmp_path) == []


async def test_an_empty_database_is_not_a_restored_one(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    restore = backup(sqlite_url)
    async with started(sqlite_url, tmp_path) as services:
        await create_person(services, confirmed=True)
    restore()
    async with started(sqlite_url, tmp_path):
        assert not is_warned(caplog)


async def test_no_data_folder_is_created(sqlite_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    settings = Settings(database_url=sqlite_url, data_dir=folder, secret="x" * 40)  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.start()
    await services.accounts.registration.create(new_address(), None)
    await services.stop()
    assert not list(tmp_path.glob("data"))  # noqa: ASYNC240  # quick


async def test_a_folder_remembers_twenty_databases(sqlite_url: str, tmp_path: Path) -> None:
    for number in range(25):
        path = tmp_path / f"newest-event-{UUID(int=number)}.json"
        path.write_text("{}")
        os.utime(path, (number, number))
    async with started(sqlite_url, tmp_path) as services:
        await create_person(services, confirmed=True)
    oldest = {UUID(int=number) for number in range(6)}
    names = {path.stem.removeprefix("newest-event-") for path in remembered(tmp_path)}
    assert len(names) == 20
    assert names.isdisjoint(map(str, oldest))
