"""A small HTTP client for what wrk cannot do: every request another one, or one at each tick.

It does little so that it takes little of the machine that it shares with the server; what it
measures still contains its own waiting for a core.
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
    """What `work` gives, on the event loop that the servers have too."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def request(path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """A GET, or a POST of `body`, as it goes over the wire."""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@dataclass(slots=True)
class Answers:
    """What came back: seconds of each 2xx answer, and how many had each other status."""

    latencies: list[float] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, status: int, latency: float) -> None:
        """Count one."""
        if 200 <= status < 300:
            self.latencies.append(latency)
        else:
            self.others[status] = self.others.get(status, 0) + 1

    @property
    def rate(self) -> float:
        """2xx answers per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """In milliseconds; 0.99 for the 99th."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


class Connection:
    """One connection, one request at a time, kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, base: str) -> Self:
        """To the server at `base`."""
        parts = urlsplit(base)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def ask(self, wire: bytes) -> int:
        """The status of the answer, once all of it is here."""
        status, _ = await self.exchange(wire)
        return status

    async def exchange(self, wire: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self._writer.write(wire)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((line[15:] for line in lines if line.startswith(b"content-length:")), b"0")
        body = await self._reader.readexactly(int(length))
        return int(head[9:12]), body

    def close(self) -> None:
        """Without waiting."""
        self._writer.close()


async def each_once(base: str, wires: Sequence[bytes], *, connections: int) -> Answers:
    """Send every request once, in order, over so many connections that are always busy."""
    answers, remaining = Answers(), iter(wires)
    begun = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_work_off(base, remaining, answers))
    answers.seconds = perf_counter() - begun
    return answers


async def without_pause(base: str, wires: Sequence[bytes], *, seconds: float) -> Answers:
    """As many clients as there are requests, each sending its own again and again."""
    answers = Answers()
    begun = perf_counter()

    def again(wire: bytes) -> Iterator[bytes]:
        while perf_counter() - begun < seconds:
            yield wire

    async with asyncio.TaskGroup() as group:
        for wire in wires:
            group.create_task(_work_off(base, again(wire), answers))
    answers.seconds = perf_counter() - begun
    return answers


async def at_each_tick(base: str, wire: bytes, *, interval: float, seconds: float) -> Answers:
    """One request each `interval`, whether or not those before are answered.

    Times count from the tick, so that waiting to be sent is part of them.
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


async def _work_off(base: str, wires: Iterator[bytes], answers: Answers) -> None:
    connection = await Connection.open(base)
    for wire in wires:
        begun = perf_counter()
        status = await connection.ask(wire)
        answers.add(status, perf_counter() - begun)
    connection.close()
