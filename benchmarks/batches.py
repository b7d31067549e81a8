"""CPU time of servers for one request: small batches to several servers in turn.

The CPU time does not contain the client, and the turns are short, so that other load on the machine
affects all servers alike.
"""

import math
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from benchmarks import processes
from benchmarks.bench import Running
from benchmarks.stack import WrongAnswer

SIZE = 8
"""Requests on each connection of one load before the next load has its turn."""


@dataclass(frozen=True, slots=True)
class Load:
    """A GET request to a server, and the end of each response."""

    server: Running
    path: str
    ends: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def wire(self) -> bytes:
        """The bytes of the request."""
        lines = [f"GET {self.path} HTTP/1.1", "host: shop.example"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


def microseconds(
    loads: Sequence[Load], *, connections: int, batches: int, seconds: float = math.inf
) -> list[list[float]]:
    """Returns the CPU time of the server of each load for a request, for each of its batches.

    After `seconds`, a third of the batches is enough.
    """
    used: list[list[float]] = [[] for _ in loads]
    begun = perf_counter()
    for number in range(batches):
        if number >= batches / 3 and perf_counter() - begun > seconds:
            break
        # In alternating order, so that no load always follows the same other one.
        turns = list(enumerate(loads))
        for index, load in turns if number % 2 == 0 else reversed(turns):
            # Only during its own batch: authapi also has periodic tasks.
            before = processes.exact_cpu_seconds(load.server.pid)
            _send(load, connections)
            taken = processes.exact_cpu_seconds(load.server.pid) - before
            used[index].append(taken / SIZE / connections * 1e6)
    return used


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Returns the ratio of two loads: the median of the ratios of the batches of the same turn.

    Other load makes the batches of some turns slower, but those of one turn alike.
    """
    return median(ours / theirs for ours, theirs in zip(of, to, strict=True))


def _send(load: Load, connections: int) -> None:
    """Sends `SIZE` requests on each of several connections, one after the other on each."""
    address, wire = ("127.0.0.1", load.server.stack.port), load.wire
    with ExitStack() as stack:
        # New connections, because uvicorn closes one that waits for five seconds.
        sockets = [
            stack.enter_context(socket.create_connection(address, timeout=30))
            for _ in range(connections)
        ]
        for _ in range(SIZE):
            # All at once: a server that waits for each request measures its cold caches.
            for each in sockets:
                each.sendall(wire)
            for each in sockets:
                _receive(each, load.ends)


def _receive(connection: socket.socket, ends: bytes) -> None:
    found = connection.recv(65536)
    while not found.endswith(ends):
        part = connection.recv(65536)
        if not part:
            raise WrongAnswer(found[:200].decode("latin-1"))
        found += part
    if b" 200 " not in found[:20]:
        raise WrongAnswer(found[:200].decode("latin-1"))
