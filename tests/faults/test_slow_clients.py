"""27: thousands of idle connections, and slow heads and bodies, hold up no other client.

Directly, and through the proxies of deploy/, whose time-outs are shortened as that of the service.
"""

import asyncio
import os
import random
import resource
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.figures import percentile, scaled, spread
from tests.faults.harness.http_client import Client
from tests.faults.harness.polling import until
from tests.faults.harness.probe import Probe
from tests.faults.harness.process_stats import sample
from tests.faults.harness.service import Service
from tests.proxies.testbed.proxies import Certificate, command, placed, text_of, written
from tests.servers.process import ServeProcess, free_port

pytestmark = pytest.mark.faults

_TIMEOUT = float(scaled(2, 60))
"""Seconds in which a head, and then a body, must arrive."""
_BYTE_INTERVAL = 0.4
"""Seconds between two bytes of a slow client."""
_BOUND = 2.0
"""Seconds within which each other client is answered."""
_PER_CONNECTION = 48 << 10
"""Bytes of memory of the service for each connection that is held, at most, and as many again for
each byte that a slow client may have sent."""
_BASE = 48 << 20
"""Bytes that the work of the other clients may add."""
_HELD = {
    "direct": scaled(600, 10_000),
    # nginx has 512 connections to all sides without another `worker_connections`, HAProxy 4096 as
    # configured in deploy/.
    "caddy": scaled(300, 5_000),
    "nginx": 300,
    "haproxy": scaled(300, 3_500),
}
_SLOW = scaled(50, 500)
_BODY_BYTES = {"nginx": 6}
"""nginx has no limit for a whole body, only for the time between two reads. It keeps the request to
itself until the body is complete."""
_SHORTER = {
    # What is awaited, and the time that it has in this test: heads, bodies, and the next request.
    "caddy": {
        "read_header 10s": "read_header 2s",
        "read_body 40s": "read_body 4s",
        "idle 2m": "idle 3s",
    },
    "nginx": {
        "client_header_timeout 10s": "client_header_timeout 2s",
        "client_body_timeout 30s": "client_body_timeout 2s",
        "keepalive_timeout 2m": "keepalive_timeout 3s",
    },
    "haproxy": {
        "timeout http-request 10s": "timeout http-request 2s",
        "timeout http-keep-alive 2m": "timeout http-keep-alive 3s",
        "timeout client 30s": "timeout client 3s",
    },
}


@dataclass
class _Place:
    """Where the clients connect to."""

    port: int
    root: Path | None = None
    """The certificate of a proxy."""
    context: ssl.SSLContext | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.root is not None:
            self.context = ssl.create_default_context(cafile=str(self.root))

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if self.context is None else "localhost"
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname=name
        )


@dataclass
class _Slow:
    """Clients that take their time, and how their connections ended."""

    ends: Counter[str] = field(default_factory=Counter)
    lifetimes: dict[str, list[float]] = field(default_factory=dict)

    async def hold(self, place: _Place, kind: str, begin: bytes, more: bytes) -> None:
        """Sends `begin`, and then one byte of `more` after the other, until the other side ends."""
        started = time.monotonic()
        try:
            reader, writer = await place.open()
        except OSError as error:
            self.ends[f"{kind}: {type(error).__name__} at once"] += 1
            return
        try:
            writer.write(begin)
            dripping = asyncio.create_task(self._drip(writer, more))
            with suppress(OSError):
                status = (await reader.read(1 << 16))[9:12].decode()
                self.ends[f"{kind}: {status or 'closed'}"] += 1
                while await reader.read(1 << 16):
                    pass
            self.lifetimes.setdefault(kind, []).append(time.monotonic() - started)
            dripping.cancel()
        finally:
            writer.transport.abort()

    @staticmethod
    async def _drip(writer: asyncio.StreamWriter, more: bytes) -> None:
        with suppress(OSError):
            for byte in more:
                await asyncio.sleep(_BYTE_INTERVAL)
                writer.write(bytes([byte]))
                await writer.drain()


_HEAD = b"GET /me HTTP/1.1\r\nHost: localhost\r\n"
_POST = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_BODY = _POST + b"Content-Length: 2000\r\n\r\n{"
_KEPT = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A whole request, after which the connection is kept open and nothing follows."""


@asynccontextmanager
async def _proxied(name: str, service: Service, port: int) -> AsyncIterator[_Place]:
    """The address of the service itself, or of a proxy in front of it."""
    if name == "direct":
        yield _Place(port)
        return
    folder, public = service.directory / name, free_port()
    folder.mkdir()
    certificate, text = Certificate(folder), text_of(name)
    for long, short in _SHORTER[name].items():
        assert long in text
        text = text.replace(long, short)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    root = certificate.public
    if name == "caddy":
        environment["SITE_ADDRESS"] = f"https://localhost:{public}"
        environment["UPSTREAMS"] = f"127.0.0.1:{port}"
        root = folder / "caddy/pki/authorities/local/root.crt"
    else:
        text = placed(text, public, [port], certificate, folder)
    with ServeProcess(command(name, written(name, text, folder)), environment, folder) as process:
        yield await _ready(process, public, root)


async def _ready(process: ServeProcess, port: int, root: Path) -> _Place:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError):
            place = _Place(port, root)
            reader, writer = await place.open()
            writer.write(_KEPT)
            head = await reader.read(1 << 16)
            writer.transport.abort()
            if head[9:12] == b"200":
                return place
        await asyncio.sleep(0.05)
    raise TimeoutError(process.output())


@pytest.mark.parametrize("name", _HELD)
async def test_27_slow_clients(
    name: str, postgres_here: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    held = min(_HELD[name], _allow_files() - 500)
    service = new_service(
        postgres_here, BODY_TIMEOUT=str(_TIMEOUT), CHEAP_HASHES="true", TRUSTED_PROXIES="127.0.0.1"
    )
    running = await asyncio.to_thread(service.start)
    pid = running.process.pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, _files())
    headers = await _log_in(running.port)
    slow = _Slow()
    async with _proxied(name, service, running.port) as place, AsyncExitStack() as stack:
        probe = Probe(place.port, _HEAD + b"Connection: close\r\n" + headers, place.root)
        stack.callback(probe.kill)
        await asyncio.sleep(0.5)
        before, memory, files = sample(pid), 0, 0
        clients = [("idle", b"", b"")] * held + [("kept", _KEPT, b"")] * (held // 10)
        body = b" " * _BODY_BYTES.get(name, 500)
        clients += [("head", _HEAD, b"X-Slow: " + b"x" * 500), ("body", _BODY, body)] * _SLOW
        chance.shuffle(clients)
        tasks, deadline = [], time.monotonic() + scaled(40, 300)
        for number, (kind, begin, more) in enumerate(clients):
            tasks.append(asyncio.create_task(slow.hold(place, kind, begin, more)))
            if number % 20 == 0:
                await asyncio.sleep(0.01)
        while any(not task.done() for task in tasks):
            now = sample(pid)
            memory, files = max(memory, now.resident), max(files, now.files)
            await asyncio.sleep(0.1)
            waiting = sum(not task.done() for task in tasks)
            assert time.monotonic() < deadline, (slow.ends, f"{waiting} connections stay open")
        answers = await asyncio.to_thread(probe.end)
        # A proxy keeps some connections to the service for its next requests.
        await until(lambda: sample(pid).files <= before.files + 20, within=20, what="ended")
        after = sample(pid)
    grown = memory - before.resident
    statuses = Counter(status for status, _ in answers)
    seconds = [it for _, it in answers]
    lifetimes = {kind: f"{max(found):.1f} s" for kind, found in sorted(slow.lifetimes.items())}
    report(
        f"{held} idle, {2 * _SLOW} slow, {dict(sorted(slow.ends.items()))}, ended within "
        f"{lifetimes}; GET /me {dict(statuses)}, {spread(seconds)}; memory +{grown >> 20} MB, "
        f"files {before.files} to {files} to {after.files}"
    )
    assert set(statuses) == {200}
    assert percentile(seconds, 0.99) < _BOUND
    assert grown < _BASE + len(clients) * _PER_CONNECTION


def _files() -> tuple[int, int]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard, hard


def _allow_files() -> int:
    """Raises the limit of open files of this process as far as it may; returns it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, _files())
    return _files()[0]


async def _log_in(port: int) -> bytes:
    body = {"email": "ann@example.com", "password": "correct horse battery staple"}
    async with Client(port) as client:
        assert (await client.post("/register", body)).status == 201
        answer = await client.post("/login", {**body, "strategy": "token"})
    return f"Authorization: Bearer {answer.json()['access_token']}\r\n\r\n".encode()
