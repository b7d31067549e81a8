"""Callers that are not in the identity cache: each request has a different session.

The same client then sends the same requests to the same process again, so that the difference is
only that of the cache.
"""

import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from benchmarks import client, seed
from benchmarks.bench import Bench
from benchmarks.stack import Stack, bearer
from benchmarks.stacks import authapi, fastapi_users
from benchmarks.tables import table


@dataclass(frozen=True, slots=True)
class Crowd:
    """A stack, its database, and how to insert many callers."""

    stack: Stack
    url: str
    fill: Callable[[psycopg.Connection, int, int], None]
    headers: Callable[[int], dict[str, str]]
    path: str


def measure(bench: Bench) -> dict[str, Any]:
    """Measures authapi and fastapi-users, with credentials that are rows in the database."""
    crowds = []
    if "authapi" in bench.options.stacks:
        stack = authapi.application(bench, "cold_authapi")
        url = stack.environment["AUTHAPI_DATABASE_URL"]
        crowds.append(Crowd(stack, url, _fill_authapi, cookie_of, stack.guarded["session cookie"]))
    if "fastapi-users" in bench.options.stacks:
        stack = fastapi_users.stack(bench, "cold_fastapi_users")
        url = bench.postgres.url("cold_fastapi_users")
        crowds.append(
            Crowd(stack, url, _fill_fastapi_users, _token_of, stack.guarded["opaque token"])
        )
    rows = []
    for crowd in crowds:
        print(f"cold: {crowd.stack.name}", file=sys.stderr)
        rows.append(_row(bench, crowd))
    return {"rows": rows, "callers": bench.options.cold}


def cookie_of(number: int) -> dict[str, str]:
    """Returns the header of a session from `seed`."""
    return {"Cookie": f"authapi={seed.secret(number)}"}


def _row(bench: Bench, crowd: Crowd) -> dict[str, Any]:
    count, rounds = bench.options.cold, []
    with bench.running(crowd.stack) as server:
        with psycopg.connect(crowd.url, autocommit=True) as connection:
            # One additional round: the first fills the connection pool and does not count.
            crowd.fill(connection, 0, count * (bench.options.rounds + 1))
            connection.execute("vacuum analyze")
        for number in range(bench.options.rounds + 1):
            numbers = range(count * number, count * (number + 1))
            wires = [client.request(crowd.path, crowd.headers(each)) for each in numbers]
            cold, again = (_send(bench, server.stack.base, wires) for _ in range(2))
            rounds.append((cold, again))
    return {
        "stack": crowd.stack.name,
        "route": crowd.path,
        **{
            f"{name}_{what}": round(median(of(pair[place]) for pair in rounds[1:]), 2)
            for place, name in enumerate(("cold", "again"))
            for what, of in _FIGURES.items()
        },
    }


_FIGURES: Mapping[str, Callable[[client.Answers], float]] = {
    "requests_per_second": lambda answers: answers.rate,
    "p50_ms": lambda answers: answers.percentile(0.5),
    "p99_ms": lambda answers: answers.percentile(0.99),
}


def _send(bench: Bench, base: str, wires: list[bytes]) -> client.Answers:
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
        *("stack, route", "first time, requests/s", "p50 ms", "p99 ms"),
        *("again, requests/s", "p50 ms", "p99 ms"),
    )
    rows = [
        (
            f"{row['stack']}: {row['route']}",
            *(row[f"{name}_{what}"] for name in ("cold", "again") for what in _FIGURES),
        )
        for row in found["rows"]
    ]
    return f"## {found['callers']:,} callers, each for the first time\n\n{table(head, rows)}"
