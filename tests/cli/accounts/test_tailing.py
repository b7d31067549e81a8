"""`authapi events tail`."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from authapi.cli.accounts import tailing
from authapi.cli.accounts.tailing import follow
from authapi.clock import now
from authapi.domain.client import Client
from authapi.domain.events import EventFilter, EventType
from authapi.services import Services
from authapi.settings import Settings
from tests.cli.conftest import Run
from tests.cli.processes import environment_in, heeding_interrupts
from tests.storage.rows import store_login

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    services = Services.build(Settings.isolated(database_url=database_url))
    yield services
    await services.stop()


async def test_past_events_come_first_and_each_new_one_once(
    services: Services, database_url: str
) -> None:
    def ip(number: int) -> Client:
        return Client(ip=f"192.0.2.{number}")

    for number in (1, 2, 3):
        await store_login(database_url, ip(number))
    await store_login(database_url, ip(4), at=now() - timedelta(days=1))
    events = follow(services, EventFilter(type=EventType.LOGIN), lines=2, interval=0.01)
    assert [(await anext(events)).client.ip for _ in range(2)] == ["192.0.2.2", "192.0.2.3"]
    following = asyncio.ensure_future(anext(events))
    # It was made before the others, and appears after them.
    await store_login(database_url, ip(5), at=now() - timedelta(seconds=20))
    assert (await following).client.ip == "192.0.2.5"
    following = asyncio.ensure_future(anext(events))
    await store_login(database_url, ip(6))
    assert (await following).client.ip == "192.0.2.6"
    await events.aclose()


async def test_an_event_of_a_long_pause_is_found(
    services: Services, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspended = timedelta(0)
    monkeypatch.setattr(tailing, "now", lambda: now() + suspended)
    await store_login(database_url, Client(ip="192.0.2.1"))
    events = follow(services, EventFilter(type=EventType.LOGIN), lines=1, interval=0.01)
    assert (await anext(events)).client.ip == "192.0.2.1"
    # It is recorded after the first look; the next one is ten minutes later.
    await store_login(database_url, Client(ip="192.0.2.2"))
    suspended = timedelta(minutes=10)
    assert (await asyncio.wait_for(anext(events), 10)).client.ip == "192.0.2.2"
    await events.aclose()


def test_lines_of_json_until_ctrl_c(run: Run, tmp_path: Path) -> None:
    assert run("users", "create", "a@example.com", text=PASSWORD).returncode == 0
    command = heeding_interrupts("events", "tail", "--json", "--interval", "0.1")
    with subprocess.Popen(
        [*command, "--type", "account_registered"],
        env=environment_in(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        assert run("users", "create", "b@example.com", text=PASSWORD).returncode == 0
        second = json.loads(process.stdout.readline())
        assert first["user_id"] != second["user_id"]
        assert {first["type"], second["type"]} == {"account_registered"}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""
