"""The clean database of a test, relative to a new one: `authapi.testing.CleanDatabase`.

Each round adds accounts with their sessions and events, as a test does, then cleans the database.
The comparison is the creation of another database by the migrations.
"""

import asyncio
from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any

from authapi import create_app
from authapi.testing import CleanDatabase, client
from benchmarks.bench import Bench
from benchmarks.tables import table

TESTS = 10
"""Cleaned databases in a round."""


def measure(bench: Bench) -> dict[str, Any]:
    """Measures SQLite and PostgreSQL; each figure is the median over the rounds, in ms."""
    return {"rows": [_row("sqlite", None, bench), _row("postgres", bench.database("kit"), bench)]}


def _row(store: str, server: str | None, bench: Bench) -> dict[str, Any]:
    new, clean = [], []
    for _ in range(bench.options.rounds):
        begun = perf_counter()
        with CleanDatabase(server) as database:
            new.append((perf_counter() - begun) * 1e3)
            clean += [_clean_after_test(database) for _ in range(TESTS)]
    return {
        "store": store,
        "new_ms": round(median(new), 1),
        "clean_ms": round(median(clean), 1),
        "slowest_clean_ms": round(max(clean), 1),
        "ratio": round(median(new) / median(clean), 1),
    }


def _clean_after_test(database: CleanDatabase) -> float:
    asyncio.run(_fill(database))
    begun = perf_counter()
    database.clean()
    return (perf_counter() - begun) * 1e3


async def _fill(database: CleanDatabase) -> None:
    async with client(create_app(database.settings())) as api:
        for _ in range(3):
            await api.login(await api.create_user())


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    head = ("store", "new database, ms", "clean database, ms", "slowest", "new to clean")
    keys = ("store", "new_ms", "clean_ms", "slowest_clean_ms", "ratio")
    return "## A clean database for each test\n\n" + table(
        head, [tuple(row[key] for key in keys) for row in found["rows"]]
    )
