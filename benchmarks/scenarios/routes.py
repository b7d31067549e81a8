"""Requests per second of authenticated callers, for each stack in each round.

A ratio is the median over the rounds of two figures of the same round, which are measured directly
after one another, so that other load on the machine affects both.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import control, processes, wrk
from benchmarks.bench import Bench, Running
from benchmarks.stack import Stack, Target, WrongAnswer, accounts
from benchmarks.stacks import FAMILIES, authapi
from benchmarks.tables import table

BARE = ("bare FastAPI", "no authentication")
BARE_ME = ("bare FastAPI", "no authentication, body of GET /me")
WARM_UP = 2
"""Seconds of load before the first round."""
LOGIN_AGAIN = 240.0
"""Seconds; the shortest-lived credential, authapi's JWT, lasts 600 by default."""
Key = tuple[str, str]


@dataclass(slots=True)
class Figure:
    """The figures of one route by round, until an error."""

    family: str
    loads: list[wrk.Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Microseconds of the server's CPU for one request."""
    resident: list[int] = field(default_factory=list)
    error: str | None = None


@dataclass(slots=True)
class Subject:
    """A running server and its targets."""

    server: Running
    targets: Sequence[Target] = ()
    logged_in: float = -LOGIN_AGAIN

    def refresh(self, bench: Bench) -> None:
        """Logs in again before the credentials expire."""
        if time.monotonic() - self.logged_in < LOGIN_AGAIN:
            return
        known = accounts(bench.options.accounts)
        self.targets = self.server.stack.targets(self.server.client, known)
        self.logged_in = time.monotonic()


def measure(bench: Bench) -> dict[str, Any]:
    """Measures all chosen stacks, whose routes return the same body to authenticated callers."""
    chosen = _chosen(bench)
    subjects = [Subject(bench.enter(bench.running(stack))) for stack in chosen]
    for subject in subjects:
        for account in accounts(bench.options.accounts):
            subject.server.stack.register(subject.server.client, account)
    figures: dict[Key, Figure] = {}
    for number in range(bench.options.rounds):
        print(f"routes: round {number + 1} of {bench.options.rounds}", file=sys.stderr)
        # In alternating order, so that no stack always follows the same other one.
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            subject.refresh(bench)
            _round(bench, subject, figures)
    rows = [row for row in _rows(figures) if row["stack"] != authapi.CONTROL]
    return {"control": _control(figures), "rows": rows, "versions": _versions(chosen)}


def _chosen(bench: Bench) -> list[Stack]:
    chosen: list[Stack] = []
    for name in bench.options.stacks:
        chosen += FAMILIES[name](bench)
        # After authapi, so that as much time is between the two bare applications as between the
        # figures of authapi and those of the bare application that these are compared with.
        if name == "authapi" and "bare" in bench.options.stacks:
            chosen += authapi.control(bench)
    return chosen


def _control(figures: Mapping[Key, Figure]) -> float | None:
    figure = figures.get((authapi.CONTROL, BARE[1]))
    if figure is None or figure.error is not None:
        return None
    return _ratio(figures, figure, BARE)


def _round(bench: Bench, subject: Subject, figures: dict[Key, Figure]) -> None:
    for target in subject.targets:
        stack = subject.server.stack
        figure = figures.setdefault((stack.name, target.label), Figure(stack.family))
        if figure.error is not None:
            continue
        try:
            if not figure.loads:  # warms up just-in-time compilers and connection pools
                _load(bench, subject.server, target, seconds=WARM_UP)
            _record(bench, subject.server, target, figure)
        except (WrongAnswer, wrk.RequestsFailed) as trouble:
            figure.error = str(trouble)


def _record(bench: Bench, server: Running, target: Target, figure: Figure) -> None:
    target.check(server.client)
    before = processes.cpu_seconds(server.pid)
    load = _load(bench, server, target, seconds=bench.options.seconds)
    used = processes.cpu_seconds(server.pid) - before
    target.check(server.client)
    figure.loads.append(load)
    figure.cpu.append(used / load.requests * 1e6)
    figure.resident.append(processes.resident_bytes(server.pid))


def _load(bench: Bench, server: Running, target: Target, *, seconds: int) -> wrk.Load:
    return wrk.load(
        server.stack.base + target.path,
        [headers for _, headers in target.callers],
        connections=bench.options.connections,
        seconds=seconds,
    )


def _rows(figures: Mapping[Key, Figure]) -> list[dict[str, Any]]:
    rows = []
    for (stack, label), figure in figures.items():
        row: dict[str, Any] = {"stack": stack, "family": figure.family, "route": label}
        rows.append(row)
        if figure.error is not None:
            row["error"] = figure.error
            continue
        loads = figure.loads
        own = (stack, label if figure.family == "bare" else BARE[1])
        yardstick = BARE_ME if "/me" in stack.lower() or "/me" in label.lower() else BARE
        row |= {
            "requests_per_second": round(median(load.rate for load in loads), 1),
            "by_round": [round(load.rate, 1) for load in loads],
            "to_own_bare": _ratio(figures, figure, own),
            "to_own_bare_by_cpu": _ratio(figures, figure, own, by_cpu=True),
            "to_bare_fastapi": _ratio(figures, figure, yardstick),
            "to_bare_fastapi_by_cpu": _ratio(figures, figure, yardstick, by_cpu=True),
            "p50_ms": round(median(load.p50 for load in loads), 2),
            "p99_ms": round(median(load.p99 for load in loads), 2),
            "cpu_us_per_request": round(median(figure.cpu), 1),
            "resident_mib": round(max(figure.resident) / 2**20, 1),
        }
    return rows


def _ratio(
    figures: Mapping[Key, Figure], figure: Figure, yardstick: Key, *, by_cpu: bool = False
) -> float | None:
    other = figures.get(yardstick)
    if other is None or other.error is not None:
        return None
    if by_cpu:
        costs = zip(figure.cpu, other.cpu, strict=True)
        return round(median(theirs / ours for ours, theirs in costs), 3)
    pairs = zip(figure.loads, other.loads, strict=True)
    return round(median(ours.rate / theirs.rate for ours, theirs in pairs), 3)


def _versions(stacks: Sequence[Stack]) -> dict[str, dict[str, str]]:
    return {stack.family: dict(stack.versions) for stack in stacks if stack.versions}


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table, and the errors of routes without figures."""
    head = (
        *("stack, route", "requests/s", "of its own bare route", "the same by CPU"),
        *("of bare FastAPI", "p50 ms", "p99 ms", "CPU µs/request", "RSS MiB"),
    )
    keys = (
        *("requests_per_second", "to_own_bare", "to_own_bare_by_cpu", "to_bare_fastapi"),
        *("p50_ms", "p99_ms", "cpu_us_per_request", "resident_mib"),
    )
    good = [row for row in found["rows"] if "error" not in row]
    bad = [row for row in found["rows"] if "error" in row]
    rows = [(f"{row['stack']}: {row['route']}", *(row[key] for key in keys)) for row in good]
    notes = [f"* {row['stack']}: {row['route']}: no figure: {row['error']}" for row in bad]
    said = control.sentence(found.get("control"))
    return "\n\n".join(["## A known caller", said, table(head, rows), *notes])
