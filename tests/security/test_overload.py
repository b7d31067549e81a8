"""The number of concurrent and of waiting hashes is bounded, so a flood of logins cannot exhaust
memory and CPU (OWASP ASVS 15.2.2)."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from authapi import create_app
from authapi.crypto.passwords import PasswordHash, PasswordHasher
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.servers.process import ServeProcess, free_port

pytestmark = pytest.mark.real_hashes

UNLIMITED = "100000/second"
NAMES = ("limit_account_and_network", "limit_account", "limit_network", "limit_total")
LIMITS = dict.fromkeys(NAMES, UNLIMITED)


class Gate:
    """Blocks every verification until it is opened, and counts the running ones."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.opened.wait(30)
        with self._lock:
            self.running -= 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, verify = Gate(), PasswordHasher.verify

    def held(self: PasswordHasher, password: str, stored: PasswordHash | None) -> None:
        gate.enter()
        verify(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", held)
    yield gate
    gate.opened.set()


async def log_in(api: Client, email: str) -> httpx.Response:
    return await api.post(
        "/login", json={"email": email, "password": PASSWORD, "strategy": "token"}
    )


async def until_waiting(api: Client, count: int) -> None:
    async with asyncio.timeout(30):
        while api.services.passwords._pending < count:  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.001)


async def test_requests_over_capacity_are_rejected_at_once(
    make_settings: SettingsFactory, gate: Gate
) -> None:
    settings = make_settings(hash_concurrency=2, hash_queue=3, **LIMITS)
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        admitted = [asyncio.create_task(log_in(api, alice.email)) for _ in range(5)]
        await until_waiting(api, 5)
        async with asyncio.timeout(20):
            refused = await asyncio.gather(*(log_in(api, alice.email) for _ in range(50)))
        # The gate is still closed, so the rejected requests have not waited for a hash.
        assert not any(task.done() for task in admitted)
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        register = {"email": "bob@example.com", "password": PASSWORD}
        assert (await api.post("/register", json=register)).json()["code"] == "overloaded"
        # Requests without a hash are served.
        for path in ("/health/live", "/health/ready", "/.well-known/jwks.json"):
            assert (await api.get(path)).status_code == 200
        gate.opened.set()
        assert [answer.status_code for answer in await asyncio.gather(*admitted)] == [200] * 5
        assert gate.most == 2
        assert (await log_in(api, alice.email)).status_code == 200
        assert (await api.post("/register", json=register)).status_code == 201
        assert api.services.passwords._pending == 0


async def test_overload_is_logged_and_not_counted_as_guessing(
    make_settings: SettingsFactory, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    limits = {**LIMITS, "limit_account_and_network": "3/hour"}
    settings = make_settings(hash_concurrency=1, hash_queue=0, **limits)
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        first = asyncio.create_task(log_in(api, alice.email))
        await until_waiting(api, 1)
        for _ in range(10):
            answer = await log_in(api, alice.email)
            assert answer.status_code == 503
        records = [r for r in caplog.records if r.message == "unavailable"]
        assert len(records) == 10
        assert {r.__dict__["code"] for r in records} == {"overloaded"}
        gate.opened.set()
        assert (await first).status_code == 200
        assert (await log_in(api, alice.email)).status_code == 200


async def test_closed_connection_does_not_free_its_place(
    make_settings: SettingsFactory, gate: Gate
) -> None:
    # The hash continues to run. If its place were freed, more hashes would run than allowed.
    settings = make_settings(hash_concurrency=1, hash_queue=0, **LIMITS)
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        first = asyncio.create_task(log_in(api, alice.email))
        async with asyncio.timeout(30):
            # A hash that has not started is cancelled with its request, and frees its place.
            while gate.running < 1:  # noqa: ASYNC110  # a thread changes it
                await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await log_in(api, alice.email)).status_code == 503
        gate.opened.set()
        async with asyncio.timeout(30):
            while (await log_in(api, alice.email)).status_code == 503:  # noqa: ASYNC110  # the same
                await asyncio.sleep(0.001)


def memory(pid: int, name: str) -> int:
    """A value of /proc/PID/status, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(name)


@pytest.mark.slow
async def test_memory_stays_under_base_plus_limit_times_cost(tmp_path: Path) -> None:
    concurrency, cost, margin = 2, 65536, 48 * 1024
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_ARGON2_MEMORY": str(cost),
        "AUTHAPI_HASH_CONCURRENCY": str(concurrency),
        "AUTHAPI_HASH_QUEUE": "20",
        **{f"AUTHAPI_{name.upper()}": value for name, value in LIMITS.items()},
    }
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "authapi", "serve"]
    limits = httpx.Limits(max_connections=250)
    with ServeProcess(command, environment, tmp_path) as server:
        server.wait_ready(f"{url}/health/ready", timeout=60)
        async with httpx.AsyncClient(
            base_url=url, trust_env=False, timeout=120, limits=limits
        ) as http:
            body = {"email": "alice@example.com", "password": PASSWORD}
            assert (await http.post("/register", json=body)).status_code == 201
            base = memory(server.pid, "VmRSS")
            body["strategy"] = "token"
            storm = asyncio.gather(*(http.post("/login", json=body) for _ in range(200)))
            pings = []
            while not storm.done():
                began = time.perf_counter()
                assert (await http.get("/health/live")).status_code == 200
                pings.append(time.perf_counter() - began)
                await asyncio.sleep(0.01)
            answers = await storm
            codes = [answer.status_code for answer in answers]
            assert set(codes) == {200, 503}
            for answer in answers:
                if answer.status_code == 503:
                    assert answer.json()["code"] == "overloaded"
                    assert int(answer.headers["retry-after"]) >= 1
            peak = memory(server.pid, "VmHWM")
            pings.sort()
            p99 = pings[int(len(pings) * 0.99)] * 1000
            print(  # noqa: T201  # a measurement, visible with -s
                f"\nbase {base // 1024} MiB, peak {peak // 1024} MiB, {codes.count(200)} x 200, "
                f"{codes.count(503)} x 503, health p99 {p99:.0f} ms"
            )
            assert peak <= base + concurrency * cost + margin
            assert max(pings) < 5
            assert (await http.post("/login", json=body)).status_code == 200
        assert server.terminate() == 0
