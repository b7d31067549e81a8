"""The cost of an export of many events: time, additional memory, and latency of other requests.

Another thread sends `GET /health/live` to the same process every 10 ms.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx

from authapi.testing import PASSWORD
from benchmarks.bench import Bench
from benchmarks.stacks import authapi
from benchmarks.tables import table
from tests.security.exporting import EVENTS, PATHS, Watch, download, fill, resident
from tests.storage.rows import sql


def measure(bench: Bench) -> dict[str, Any]:
    """Measures each export once, with the same events."""
    stack = authapi.service(bench, "exports")
    url = stack.environment["AUTHAPI_DATABASE_URL"]
    file = bench.folder / "export"
    with (
        bench.running(stack) as server,
        httpx.Client(base_url=stack.base, timeout=300, trust_env=False) as http,
    ):
        _log_in(http, url)
        for path in PATHS:
            download(http, path, file)
        fill(url, http.get("/me").json()["id"])
        rows = []
        for path in PATHS:
            print(f"exports: {path}", file=sys.stderr)
            base, began = resident(server.pid), time.perf_counter()
            with Watch(server.pid, stack.base) as watch:
                download(http, path, file)
            rows.append(
                {
                    "path": path,
                    "seconds": round(time.perf_counter() - began, 1),
                    "megabytes": round(file.stat().st_size / 1e6),
                    "added_mib": round((max(watch.memory) - base) / 1024, 1),
                    "live_p99_ms": round(watch.p99 * 1000, 1),
                }
            )
    return {"events": EVENTS, "rows": rows}


def _log_in(http: httpx.Client, url: str) -> None:
    body = {"email": "root@example.com", "password": PASSWORD}
    http.post("/register", json=body).raise_for_status()
    sql(url, "UPDATE authapi_users SET is_superuser = TRUE")
    http.post("/login", json=body).raise_for_status()


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    names = ("path", "seconds", "megabytes", "added_mib", "live_p99_ms")
    rows = [tuple(row[name] for name in names) for row in found["rows"]]
    head = ("export", "seconds", "MB", "RSS added, MiB", "`/health/live` p99, ms")
    return f"## Exports of {found['events']:,} events\n\n{table(head, rows)}"
