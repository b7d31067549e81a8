"""The cost of an open route in an application with authapi, relative to the same without.

Two identical applications without authapi are the control: their ratio shows the error of the
measurement. The servers answer small batches in turn, so that other load affects all of them. The
CPU time of the servers decides, because it does not contain the client.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks import batches, control
from benchmarks.bench import Bench
from benchmarks.stack import EXPECTED, Stack
from benchmarks.stacks import authapi
from benchmarks.stacks.serving import uvicorn
from benchmarks.tables import table
from tests.servers.process import free_port

BATCHES = 75
"""Batches of each server in a round."""


def measure(bench: Bench) -> dict[str, Any]:
    """Measures the three applications in each round; a ratio is the median over the rounds."""
    stacks = [without("without"), without("control"), authapi.application(bench, "guest")]
    rounds: list[list[list[float]]] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(bench.running(item)) for item in stacks]
        loads = [batches.Load(server, "/plain", EXPECTED) for server in servers]
        count = bench.options.connections
        batches.microseconds(loads, connections=count, batches=BATCHES)  # warms up
        for number in range(bench.options.rounds):
            print(f"guest: round {number + 1} of {bench.options.rounds}", file=sys.stderr)
            rounds.append(batches.microseconds(loads, connections=count, batches=BATCHES))
    names = ("without", "control", "with")
    return {
        "microseconds": {
            name: round(median(median(found[index]) for found in rounds), 1)
            for index, name in enumerate(names)
        },
        "ratio": round(median(batches.ratio(found[0], found[2]) for found in rounds), 3),
        "control": round(median(batches.ratio(found[0], found[1]) for found in rounds), 3),
    }


def without(name: str) -> Stack:
    """Returns the application without authapi."""
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
        f"## An open route beside authapi\n\n{control.sentence(found['control'])}\n\n"
        f"{table(head, rows)}\n\nWithout to with authapi: {found['ratio']:.3f}."
    )
