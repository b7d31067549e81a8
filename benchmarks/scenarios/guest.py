"""The cost of an open route in an application with authapi, relative to the same without.

Two identical applications without authapi are the control: their ratio shows the error of the
measurement. The servers answer small batches in turn, so that other load affects all of them. The
CPU time of the servers decides, because it does not contain the client.
"""

import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks import processes
from benchmarks.bench import Bench, Running
from benchmarks.stack import EXPECTED, Stack, WrongAnswer
from benchmarks.stacks import authapi
from benchmarks.stacks.serving import uvicorn
from benchmarks.tables import table
from tests.servers.process import free_port

BATCH = 25
"""Requests on each connection of one server before the next server has its turn."""
BATCHES = 25
"""Batches of each server in a round."""
_REQUEST = b"GET /plain HTTP/1.1\r\nhost: shop.example\r\n\r\n"


def measure(bench: Bench) -> dict[str, Any]:
    """Measures the three applications in each round; a ratio is the median over the rounds."""
    stacks = [_without("without"), _without("control"), authapi.application(bench, "guest")]
    rounds: list[list[float]] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(bench.running(item)) for item in stacks]
        _measure_round(servers, bench.options.connections)  # warms up
        for number in range(bench.options.rounds):
            print(f"guest: round {number + 1} of {bench.options.rounds}", file=sys.stderr)
            rounds.append(_measure_round(servers, bench.options.connections))
    names = ("without", "control", "with")
    return {
        "microseconds": {
            name: round(median(found[index] for found in rounds), 1)
            for index, name in enumerate(names)
        },
        "ratio": round(median(found[0] / found[2] for found in rounds), 3),
        "control": round(median(found[0] / found[1] for found in rounds), 3),
    }


def _without(name: str) -> Stack:
    port = free_port()
    return Stack(
        name=name,
        family="bare",
        port=port,
        command=uvicorn(sys.executable, "without_authapi", port),
        environment={},
        ready="/plain",
        plain={"no authentication": "/plain"},
    )


def _measure_round(servers: Sequence[Running], connections: int) -> list[float]:
    """Returns the microseconds of CPU of each server for a request, of its median batch."""
    used: list[list[float]] = [[] for _ in servers]
    for number in range(BATCHES):
        # In alternating order, so that no server always follows the same other one.
        turns = list(enumerate(servers))
        for index, server in turns if number % 2 == 0 else reversed(turns):
            # Only during its own batch: authapi also has periodic tasks.
            before = processes.exact_cpu_seconds(server.pid)
            _batch(server.stack.port, connections)
            used[index].append(processes.exact_cpu_seconds(server.pid) - before)
    return [median(seconds) / BATCH / connections * 1e6 for seconds in used]


def _batch(port: int, connections: int) -> None:
    """Sends `BATCH` requests on each of several connections, one after the other on each."""
    with ExitStack() as stack:
        # New connections, because uvicorn closes one that waits for five seconds.
        wires = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(connections)
        ]
        for _ in range(BATCH):
            # All at once: a server that waits for each request measures its cold caches.
            for wire in wires:
                wire.sendall(_REQUEST)
            for wire in wires:
                _receive(wire)


def _receive(wire: socket.socket) -> None:
    found = wire.recv(65536)
    while not found.endswith(EXPECTED):
        part = wire.recv(65536)
        if not part:
            raise WrongAnswer(found[:200].decode("latin-1"))
        found += part


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    meaning = {
        "without": "the application without authapi",
        "control": "the same application once more",
        "with": "the application with authapi installed",
    }
    rows = [(text, found["microseconds"][name]) for name, text in meaning.items()]
    head = ("open route", "CPU of the server, µs per request")
    return (
        f"## An open route beside authapi\n\n{table(head, rows)}\n\n"
        f"Without to with authapi: {found['ratio']:.3f}. "
        f"Control, without to the same once more: {found['control']:.3f}."
    )
