"""200,000 events are exported in flat memory, and other requests are answered meanwhile."""

import csv
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

from authapi.storage.database import parse_url
from authapi.testing import PASSWORD
from tests.servers.process import ServeProcess, free_port
from tests.storage.rows import sql

pytestmark = pytest.mark.slow

EVENTS = 200_000
MEMORY = 20 * 1024
"""KiB that an export may add."""
P99 = 1.0
"""Seconds for `GET /health/live` during an export. Generous: other programs load the machine too."""
ROOT = "root@example.com"
SERVE = (sys.executable, "-m", "authapi", "serve")


@contextmanager
def serving(url: str, folder: Path) -> Iterator[tuple[ServeProcess, httpx.Client]]:
    """A running service, and a superuser who is logged in to it."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_DATABASE_URL": url,
    }
    base = f"http://127.0.0.1:{port}"
    with (
        ServeProcess(SERVE, environment, folder) as server,
        httpx.Client(base_url=base, timeout=120, trust_env=False) as http,
    ):
        server.wait_ready(f"{base}/health/ready", timeout=60)
        body = {"email": ROOT, "password": PASSWORD}
        assert http.post("/register", json=body).status_code == 201
        sql(url, "UPDATE users SET is_superuser = TRUE")
        assert http.post("/login", json=body).status_code == 200
        yield server, http
        assert server.terminate() == 0


def fill(url: str, user_id: str) -> None:
    """Write events of the account, as one statement of the database."""
    columns = "id, at, type, outcome, user_id, strategy, request_id, ip, user_agent, detail"
    if url.startswith("sqlite"):
        owner, key = f"'{UUID(user_id).hex}'", "'019a0000' || printf('%024x', n)"
        numbers = (
            "WITH RECURSIVE numbers(n) AS "
            f"(SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {EVENTS})"
        )
        source = "numbers"
    else:
        owner, key = f"'{user_id}'::uuid", "('019a0000' || lpad(to_hex(n), 24, '0'))::uuid"
        numbers, source = "", f"generate_series(1, {EVENTS}) AS n"
    values = (
        f"{key}, '2026-01-01 00:00:00', 'account_renamed', 'success', {owner}, 'session', "
        f"'{'0' * 32}', '192.0.2.1', '{'a browser ' * 12}', '{{}}'"
    )
    statement = f"{numbers} INSERT INTO events ({columns}) SELECT {values} FROM {source}"  # ours
    synchronous = parse_url(url).set(
        drivername="sqlite" if url.startswith("sqlite") else "postgresql+psycopg"
    )
    engine = sa.create_engine(synchronous)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


class Watch:
    """Asks for `/health/live` and the memory of a process, until it is told to end."""

    def __init__(self, server: ServeProcess, base_url: str) -> None:
        self.seconds: list[float] = []
        self.memory: list[int] = []
        self._pid, self._url = server.pid, base_url
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http:
            while not self._is_over.wait(0.01):
                began = time.perf_counter()
                assert http.get("/health/live").status_code == 200
                self.seconds.append(time.perf_counter() - began)
                self.memory.append(resident(self._pid))

    @property
    def p99(self) -> float:
        """Of the answers to `/health/live`, in seconds."""
        return statistics.quantiles(self.seconds, n=100)[-1]


def resident(pid: int) -> int:
    """The resident memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError("VmRSS")


def download(http: httpx.Client, path: str, target: Path) -> None:
    with http.stream("GET", path) as answer, target.open("wb") as file:
        assert answer.status_code == 200
        for part in answer.iter_bytes():
            file.write(part)


PATHS = {
    "/me/export": "json",
    "/admin/events/export?format=jsonl": "jsonl",
    "/admin/events/export?format=csv": "csv",
}


def count_of(file: Path, form: str) -> int:
    """How many different events a file has."""
    with file.open(encoding="utf-8", newline="") as text:
        if form == "json":
            return len({event["id"] for event in json.load(text)["events"]})
        if form == "jsonl":
            return len({json.loads(line)["id"] for line in text})
        return len({row["id"] for row in csv.DictReader(text)})


def test_memory_is_flat_and_others_are_answered(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path) as (server, http):
        for path in PATHS:  # whatever is loaded at the first use
            download(http, path, tmp_path / "small")
        fill(database_url, http.get("/me").json()["id"])
        for path, form in PATHS.items():
            base, file = resident(server.pid), tmp_path / "file"
            began = time.perf_counter()
            with Watch(server, str(http.base_url)) as watch:
                download(http, path, file)
            took, more = time.perf_counter() - began, max(watch.memory) - base
            print(  # noqa: T201  # a measurement, shown with -s
                f"\n{database_url.partition(':')[0]} {path}: {took:.1f} s, "
                f"{file.stat().st_size / 1e6:.0f} MB, memory +{more / 1024:.1f} MB, "
                f"/health/live p99 {watch.p99 * 1000:.0f} ms of {len(watch.seconds)}"
            )
            assert EVENTS <= count_of(file, form) <= EVENTS + 10
            assert more < MEMORY
            assert watch.p99 < P99
