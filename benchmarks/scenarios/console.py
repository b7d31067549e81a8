"""The pages of the console in a large database, beside the same pages in a small one.

Two services of one run answer in turn: one with 100,000 accounts, their logins and 1,000,000
events, the other with a thousandth of that. The time is that of a request over loopback.
"""

import re
import sys
import time
from collections.abc import Mapping
from statistics import median, quantiles
from typing import Any

import httpx

from authapi.testing import PASSWORD
from benchmarks.bench import Bench
from benchmarks.stacks import authapi
from benchmarks.tables import table
from tests.storage.rows import sql
from tests.volumes import ACCOUNTS, CONSOLE_QUERIES, EVENTS, console_pages, fill

LIMIT = 150
"""Milliseconds for 95 of 100 requests."""
_SMALLER = 1_000
_REQUESTS = 20
"""Requests for each page in one round."""
_ROOT = "root@example.com"


def measure(bench: Bench) -> dict[str, Any]:
    """Measures each page in both databases, alternately."""
    large, small = (authapi.service(bench, f"console_{name}") for name in ("large", "small"))
    options = {"timeout": 60, "trust_env": False}
    with (
        bench.running(large),
        bench.running(small),
        httpx.Client(base_url=large.base, **options) as in_large,  # type: ignore[arg-type]
        httpx.Client(base_url=small.base, **options) as in_small,  # type: ignore[arg-type]
    ):
        for stack, http, divisor in ((large, in_large, 1), (small, in_small, _SMALLER)):
            url = stack.environment["AUTHAPI_DATABASE_URL"]
            _log_in(http, url)
            print(f"console: {ACCOUNTS // divisor:,} accounts", file=sys.stderr)
            fill(url, accounts=ACCOUNTS // divisor, events=EVENTS // divisor)
        rows = [
            {"page": path} | _compared(bench.options.rounds, path, in_large, in_small)
            for path in _addresses()
        ]
    return {"accounts": ACCOUNTS, "events": EVENTS, "limit": LIMIT, "rows": rows}


def _addresses() -> list[str]:
    return [path + query for path in console_pages() for query in CONSOLE_QUERIES.get(path, ("",))]


def _compared(
    rounds: int, path: str, in_large: httpx.Client, in_small: httpx.Client
) -> dict[str, float]:
    taken: dict[str, list[float]] = {"large": [], "small": []}
    for number in range(rounds):
        clients = [("large", in_large), ("small", in_small)]
        for name, http in clients if number % 2 else reversed(clients):
            person = re.findall(r"people/([0-9a-f-]{36})", http.get("/console/people").text)[0]
            address = re.sub(r"\{[^}]*\}", person, path)
            http.get(address).raise_for_status()
            for _ in range(_REQUESTS):
                began = time.perf_counter()
                http.get(address).raise_for_status()
                taken[name].append((time.perf_counter() - began) * 1000)
    p95 = {name: quantiles(times, n=20)[-1] for name, times in taken.items()}
    return {
        "large_p50_ms": round(median(taken["large"]), 1),
        "large_p95_ms": round(p95["large"], 1),
        "small_p95_ms": round(p95["small"], 1),
        "ratio": round(p95["large"] / p95["small"], 2),
    }


def _log_in(http: httpx.Client, url: str) -> None:
    body = {"email": _ROOT, "password": PASSWORD}
    http.post("/register", json=body).raise_for_status()
    sql(url, "UPDATE authapi_users SET is_superuser = TRUE")
    http.post("/login", json={**body, "strategy": "session"}).raise_for_status()


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    names = ("page", "large_p50_ms", "large_p95_ms", "small_p95_ms", "ratio")
    rows = [tuple(row[name] for name in names) for row in found["rows"]]
    head = ("page", "large, p50, ms", "large, p95, ms", "small, p95, ms", "p95, large to small")
    return (
        f"## The console with {found['accounts']:,} accounts and {found['events']:,} events\n\n"
        f"{table(head, rows)}\n\nThe limit is {found['limit']} ms for 95 of 100 requests."
    )
