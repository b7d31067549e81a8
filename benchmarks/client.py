"""A small HTTP client for loads that wrk cannot generate: distinct requests, or a fixed rate.

It is minimal, because it shares the machine with the server. Its latencies include the time that it
waits for a core.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import uvloop

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` on uvloop, which the servers use too; returns its result."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def request(path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """Returns the bytes of a GET request, or of a POST request with `body`."""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@dataclass(slots=True)
class Answers:
    """Latencies of 2xx responses in seconds, and the number of responses per other status."""

    latencies: list[float] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, status: int, latency: float) -> None:
        """Records one response."""
        if 200 <= status < 300:
            self.latencies.append(latency)
        else:
            self.others[status] = self.others.get(status, 0) + 1

    @property
    def rate(self) -> float:
        """2xx responses per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Returns a percentile of the latencies in milliseconds; 0.99 is the 99th."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


class Connection:
    """A persistent connection that sends one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, base: str) -> Self:
        """Connects to the server at `base`."""
        parts = urlsplit(base)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def ask(self, wire: bytes) -> int:
        """Sends a request; returns the status after the whole response has arrived."""
        status, _ = await self.exchange(wire)
        return status

    async def exchange(self, wire: bytes) -> tuple[int, bytes]:
        """Sends a request; returns the status and the body of the response."""
        self._writer.write(wire)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((line[15:] for line in lines if line.startswith(b"content-length:")), b"0")
        body = await self._reader.readexactly(int(length))
        return int(head[9:12]), body

    def close(self) -> None:
        """Closes the connection without waiting."""
        self._writer.close()


async def each_once(base: str, wires: Sequence[bytes], *, connections: int) -> Answers:
    """Sends every request once, in order, over connections that are always busy."""
    answers, remaining = Answers(), iter(wires)
    begun = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_send_from(base, remaining, answers))
    answers.seconds = perf_counter() - begun
    return answers


async def bodies(base: str, wires: Sequence[bytes], *, connections: int) -> list[bytes]:
    """Sends every request once, over several connections; returns the bodies in the same order.

    Raises RuntimeError if a response is not 2xx.
    """
    found = [b""] * len(wires)
    remaining = iter(enumerate(wires))

    async def work() -> None:
        connection = await Connection.open(base)
        for index, wire in remaining:
            status, found[index] = await connection.exchange(wire)
            if not 200 <= status < 300:
                raise RuntimeError(f"{status}: {found[index][:200]!r}")
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())
    return found


async def without_pause(base: str, wires: Sequence[bytes], *, seconds: float) -> Answers:
    """Runs one client per request, which repeats its request without pause."""
    answers = Answers()
    begun = perf_counter()

    def again(wire: bytes) -> Iterator[bytes]:
        while perf_counter() - begun < seconds:
            yield wire

    async with asyncio.TaskGroup() as group:
        for wire in wires:
            group.create_task(_send_from(base, again(wire), answers))
    answers.seconds = perf_counter() - begun
    return answers


async def at_each_tick(base: str, wire: bytes, *, interval: float, seconds: float) -> Answers:
    """Sends one request each `interval`, independent of earlier responses.

    Latencies count from the tick, so they include the time before a request is sent.
    """
    answers, idle = Answers(), list[Connection]()

    async def one(due: float) -> None:
        connection = idle.pop() if idle else await Connection.open(base)
        status = await connection.ask(wire)
        answers.add(status, perf_counter() - due)
        idle.append(connection)

    begun = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds / interval)):
            due = begun + number * interval
            await asyncio.sleep(max(due - perf_counter(), 0))
            group.create_task(one(due))
    answers.seconds = perf_counter() - begun
    for connection in idle:
        connection.close()
    return answers


async def _send_from(base: str, wires: Iterator[bytes], answers: Answers) -> None:
    connection = await Connection.open(base)
    for wire in wires:
        begun = perf_counter()
        status = await connection.ask(wire)
        answers.add(status, perf_counter() - begun)
    connection.close()
