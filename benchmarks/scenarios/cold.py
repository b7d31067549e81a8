"""Callers that are not in the identity cache: each request has a different session.

The same client then sends the same requests to the same process again, so that the difference is
only that of the cache. The yardstick is the same look-up by hand in a bare FastAPI route. It runs
twice, and the ratio of these two identical applications is the control. All stacks take turns in
each round.
"""

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psycopg

from benchmarks import client, control, processes, seed
from benchmarks.bench import Bench, Running
from benchmarks.stack import Stack, bearer
from benchmarks.stacks import authapi, by_hand, fastapi_users
from benchmarks.tables import table

BY_HAND = "by hand, psycopg"
CONTROL = "by hand, once more"


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a stack: first and second answers, and the CPU of the first in microseconds."""

    cold: client.Answers
    again: client.Answers
    service_us: float
    """CPU time of the process of the stack for one first request."""
    total_us: float
    """The same with the CPU time of PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """A stack, its database, and how to insert many callers."""

    stack: Stack
    url: str
    fill: Callable[[psycopg.Connection, int, int], None]
    headers: Callable[[int], dict[str, str]]
    path: str
    rounds: list[Round] = field(default_factory=list)


def measure(bench: Bench) -> dict[str, Any]:
    """Measures authapi, the look-up by hand, and fastapi-users; credentials are rows in a table."""
    crowds, count = list(_crowds(bench)), bench.options.cold
    with ExitStack() as stack:
        servers = [stack.enter_context(bench.running(crowd.stack)) for crowd in crowds]
        for crowd in crowds:
            with psycopg.connect(crowd.url, autocommit=True) as connection:
                # One additional round: the first fills the connection pool and does not count.
                crowd.fill(connection, 0, count * (bench.options.rounds + 1))
                connection.execute("vacuum analyze")
        pairs = list(zip(crowds, servers, strict=True))
        for number in range(bench.options.rounds + 1):
            print(f"cold: round {number} of {bench.options.rounds}", file=sys.stderr)
            # In alternating order, so that no stack always follows the same other one.
            for crowd, server in pairs if number % 2 == 0 else reversed(pairs):
                numbers = range(count * number, count * (number + 1))
                wires = [client.request(crowd.path, crowd.headers(each)) for each in numbers]
                crowd.rounds.append(_round(bench, server, wires))
    rounds = {crowd.stack.name: crowd.rounds[1:] for crowd in crowds}
    return {
        "control": _rate_ratio(rounds, CONTROL, BY_HAND),
        "rows": [_row(crowd, rounds) for crowd in crowds if crowd.stack.name != CONTROL],
        "callers": count,
    }


def cookie_of(number: int) -> dict[str, str]:
    """Returns the header of a session from `seed`."""
    return {"Cookie": f"authapi={seed.secret(number)}"}


def _crowds(bench: Bench) -> Sequence[Crowd]:
    found = []
    if "bare" in bench.options.stacks:
        found.append(_by_hand(bench, BY_HAND, "cold_by_hand"))
    if "authapi" in bench.options.stacks:
        stack = authapi.application(bench, "cold_authapi")
        url = stack.environment["AUTHAPI_DATABASE_URL"]
        found.append(Crowd(stack, url, _fill_authapi, cookie_of, stack.guarded["session cookie"]))
    if "bare" in bench.options.stacks:
        found.append(_by_hand(bench, CONTROL, "cold_by_hand_control"))
    if "fastapi-users" in bench.options.stacks:
        stack = fastapi_users.stack(bench, "cold_fastapi_users")
        url = bench.postgres.url("cold_fastapi_users")
        path = stack.guarded["opaque token"]
        found.append(Crowd(stack, url, _fill_fastapi_users, _token_of, path))
    return found


def _by_hand(bench: Bench, name: str, database: str) -> Crowd:
    stack = by_hand.stack(bench, name, database)
    url = stack.environment["DATABASE_URL"]
    return Crowd(stack, url, _fill_authapi, cookie_of, stack.guarded["session cookie"])


def _round(bench: Bench, server: Running, wires: Sequence[bytes]) -> Round:
    service, store = processes.exact_cpu_seconds(server.pid), bench.postgres_cpu_seconds()
    cold = _send(bench, server.stack.base, wires)
    service = processes.exact_cpu_seconds(server.pid) - service
    store = bench.postgres_cpu_seconds() - store
    again = _send(bench, server.stack.base, wires)
    return Round(cold, again, service / len(wires) * 1e6, (service + store) / len(wires) * 1e6)


def _row(crowd: Crowd, rounds: Mapping[str, Sequence[Round]]) -> dict[str, Any]:
    own = rounds[crowd.stack.name]
    return {
        "stack": crowd.stack.name,
        "route": crowd.path,
        **{
            f"{name}_{what}": round(median(of(getattr(one, name)) for one in own), 2)
            for name in ("cold", "again")
            for what, of in _FIGURES.items()
        },
        "by_round": [round(one.cold.rate, 1) for one in own],
        "to_by_hand": _rate_ratio(rounds, crowd.stack.name, BY_HAND),
        "to_by_hand_by_cpu": _ratio(
            rounds, BY_HAND, crowd.stack.name, lambda one: one.total_us
        ),  # theirs to ours: less is better
        "service_us": round(median(one.service_us for one in own), 1),
        "total_us": round(median(one.total_us for one in own), 1),
    }


def _rate_ratio(rounds: Mapping[str, Sequence[Round]], name: str, other: str) -> float | None:
    return _ratio(rounds, name, other, lambda one: one.cold.rate)


def _ratio(
    rounds: Mapping[str, Sequence[Round]], name: str, other: str, figure: Callable[[Round], float]
) -> float | None:
    """Returns the median ratio of a figure in the same round; None if a stack is left out."""
    if name not in rounds or other not in rounds:
        return None
    pairs = zip(rounds[name], rounds[other], strict=True)
    return round(median(figure(ours) / figure(theirs) for ours, theirs in pairs), 3)


_FIGURES: Mapping[str, Callable[[client.Answers], float]] = {
    "requests_per_second": lambda answers: answers.rate,
    "p50_ms": lambda answers: answers.percentile(0.5),
    "p99_ms": lambda answers: answers.percentile(0.99),
}


def _send(bench: Bench, base: str, wires: Sequence[bytes]) -> client.Answers:
    answers = client.run(client.each_once(base, wires, connections=bench.options.connections))
    if answers.others:
        raise SystemExit(f"not all callers were authenticated: {answers.others}")
    return answers


def _fill_authapi(connection: psycopg.Connection, first: int, end: int) -> None:
    seed.users(connection, first, end)
    seed.sessions(connection, first, end, of_users=end)


def _fill_fastapi_users(connection: psycopg.Connection, first: int, end: int) -> None:
    with connection.cursor().copy(
        'COPY "user" (id, email, hashed_password, is_active, is_superuser, is_verified) FROM STDIN'
    ) as copy:
        for number in range(first, end):
            copy.write_row((uuid.UUID(int=number), seed.email(number), "", True, False, False))
    with connection.cursor().copy(
        "COPY accesstoken (token, created_at, user_id) FROM STDIN"
    ) as copy:
        for number in range(first, end):
            copy.write_row((seed.secret(number), "now", uuid.UUID(int=number)))


def _token_of(number: int) -> dict[str, str]:
    return bearer(seed.secret(number))


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    head = (
        *("stack, route", "first time, requests/s", "to by hand", "the same by CPU"),
        *("CPU µs, process", "with PostgreSQL", "p50 ms", "p99 ms"),
        *("again, requests/s", "p50 ms", "p99 ms"),
    )
    keys = (
        *("cold_requests_per_second", "to_by_hand", "to_by_hand_by_cpu", "service_us", "total_us"),
        *("cold_p50_ms", "cold_p99_ms", "again_requests_per_second", "again_p50_ms"),
        "again_p99_ms",
    )
    rows = [
        (f"{row['stack']}: {row['route']}", *(row.get(key) for key in keys))
        for row in found["rows"]
    ]
    said = control.sentence(found.get("control"))
    title = f"## {found['callers']:,} callers, each for the first time"
    return f"{title}\n\n{said}\n\n{table(head, rows)}"
