"""Lookup of a caller among a growing number of accounts and sessions.

One database stays at the first size, the other grows. Lookups alternate between them, so that a
ratio compares the same minute. The statement of authapi is captured and run with EXPLAIN.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import psycopg
from psycopg.rows import scalar_row
from sqlalchemy import event

from authapi.crypto.secrets import hash_secret
from authapi.domain.session import SessionKind
from authapi.storage import Database, migrations
from benchmarks import client, seed
from benchmarks.bench import Bench
from benchmarks.tables import table

LOOK_UPS = 2000
BATCH = 100
_STRIDE = (
    7_368_787  # a prime: steps of this size visit every session once, in an order without locality
)


@dataclass(frozen=True, slots=True)
class Filled:
    """A database, and the number of its rows."""

    url: str
    users: int
    sessions: int


def measure(bench: Bench) -> dict[str, Any]:
    """Measures each size after the first, compared with the first."""
    first, *others = bench.options.sizes
    small = _fill(_create(bench, "scale_small"), *first)
    large, rows = _create(bench, "scale_large"), []
    for size in others or [first]:
        print(f"scale: {size[0]:,} users, {size[1]:,} sessions", file=sys.stderr)
        begun = perf_counter()
        large = _fill(large, *size)
        seconds = perf_counter() - begun
        rows.append({"seeding_s": round(seconds, 1), **client.run(_compare(small, large))})
    return {"rows": rows, "look_ups": LOOK_UPS, "small": {"users": first[0], "sessions": first[1]}}


def _create(bench: Bench, name: str) -> Filled:
    url = bench.postgres.create_database(name)
    migrations.upgrade(url)
    return Filled(url, 0, 0)


def _fill(database: Filled, users: int, sessions: int) -> Filled:
    with psycopg.connect(database.url, autocommit=True) as connection:
        # Synchronous commit is not needed before all rows are inserted.
        connection.execute("set synchronous_commit = off")
        seed.users(connection, database.users, users)
        seed.sessions(connection, database.sessions, sessions, of_users=users)
        connection.execute("vacuum analyze")
    return Filled(database.url, users, sessions)


async def _compare(small: Filled, large: Filled) -> dict[str, Any]:
    engines = {name: Database(at.url) for name, at in (("small", small), ("large", large))}
    times: dict[str, list[float]] = {"small": [], "large": []}
    with _capture_statements(engines["large"]) as statements:
        try:
            for start in range(-BATCH, LOOK_UPS, BATCH):  # the first batch is a warm-up
                for name, at in (("small", small), ("large", large)):
                    for number in range(start, start + BATCH):
                        seconds = await _look_up(engines[name], number * _STRIDE % at.sessions)
                        if start >= 0:
                            times[name].append(seconds * 1000)
        finally:
            for engine in engines.values():
                await engine.close()
    ordered = {name: sorted(found) for name, found in times.items()}
    p50 = {name: median(found) for name, found in ordered.items()}
    p99 = {name: found[int(len(found) * 0.99)] for name, found in ordered.items()}
    return {
        "users": large.users,
        "sessions": large.sessions,
        "p50_ms": round(p50["large"], 3),
        "p99_ms": round(p99["large"], 3),
        "small_p50_ms": round(p50["small"], 3),
        "small_p99_ms": round(p99["small"], 3),
        "p50_to_small": round(p50["large"] / p50["small"], 3),
        **_explain(large, statements[-LOOK_UPS // 10 :]),
    }


async def _look_up(database: Database, number: int) -> float:
    wanted = hash_secret(seed.secret(number))
    begun = perf_counter()
    async with database.read() as store:
        found = await store.sessions.find_by_secret(wanted, SessionKind.SESSION)
    seconds = perf_counter() - begun
    if found is None:
        raise SystemExit(f"session {number} is not there")
    return seconds


@contextmanager
def _capture_statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Captures the statements to the database, with their values."""
    statements: list[tuple[str, Any]] = []

    def remember(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        statements.append((statement, values))

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", remember)
    yield statements
    event.remove(engine, "before_cursor_execute", remember)


def _explain(database: Filled, statements: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the plans of these statements, and their execution time."""
    plans = []
    with psycopg.connect(database.url, autocommit=True, row_factory=scalar_row) as connection:
        for statement, values in statements:
            explain = f"explain (analyze, format json) {statement}".encode()
            (plan,) = connection.execute(explain, values).fetchone() or [{}]
            plans.append(plan)
        size = connection.execute("select pg_database_size(current_database())").fetchone()
    nodes = list(_nodes(plans[-1]["Plan"]))
    if "Seq Scan" in nodes:
        raise SystemExit(f"a sequential scan:\n{json.dumps(plans[-1], indent=2)}")
    return {
        "postgres_p50_ms": round(median(plan["Execution Time"] for plan in plans), 3),
        "plan": nodes,
        "statement": " ".join(statements[-1][0].split()),
        "database_mib": round((size or 0) / 2**20),
    }


def _nodes(plan: Mapping[str, Any]) -> Iterator[str]:
    index = f" using {plan['Index Name']}" if "Index Name" in plan else ""
    yield plan["Node Type"] + index
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table, and the plan for the largest size."""
    small, rows, last = found["small"], [], found["rows"][-1]
    small_name = f"{small['users']:,} users, {small['sessions']:,} sessions"
    for row in found["rows"]:
        times = (row["p50_ms"], row["p99_ms"], row["small_p50_ms"], row["p50_to_small"])
        name = f"{row['users']:,} users, {row['sessions']:,} sessions"
        rows.append((name, *times, row["postgres_p50_ms"], row["database_mib"], row["seeding_s"]))
    head = (
        *("look-up among", "p50 ms", "p99 ms", f"p50 ms among {small_name}", "p50 ratio"),
        *("of p50 in PostgreSQL, ms", "database MiB", "seeding s"),
    )
    plan = ", ".join(last["plan"])
    return (
        f"## {found['look_ups']:,} look-ups of different sessions\n\n{table(head, rows)}\n\n"
        f"The plan at the largest: {plan}; no sequential scan.\n\n```sql\n{last['statement']}\n```"
    )
