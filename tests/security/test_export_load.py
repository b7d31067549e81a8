"""200,000 events are exported with constant memory, while other requests are answered."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from authapi.storage.urls import parse_url
from authapi.testing import PASSWORD
from tests.security.exporting import EVENTS, PATHS, Watch, download, fill, resident
from tests.servers.process import ServeProcess, free_port
from tests.storage.rows import sql

pytestmark = pytest.mark.slow

MEMORY = 20 * 1024
"""KiB of memory that an export may add."""
P99 = 1.0
"""Maximum seconds for `GET /health/live` during an export, also on a loaded machine."""
ROOT = "root@example.com"
SERVE = (sys.executable, "-m", "authapi", "serve")


@contextmanager
def serving(url: str, folder: Path) -> Iterator[tuple[ServeProcess, httpx.Client]]:
    """A running service, and a client that is logged in as a superuser."""
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
        sql(url, "UPDATE authapi_users SET is_superuser = TRUE")
        assert http.post("/login", json=body).status_code == 200
        yield server, http
        assert server.terminate() == 0


def count_of(file: Path, form: str) -> int:
    """Number of distinct events in a file."""
    with file.open(encoding="utf-8", newline="") as text:
        if form == "json":
            return len({event["id"] for event in json.load(text)["events"]})
        if form == "jsonl":
            return len({json.loads(line)["id"] for line in text})
        return len({row["id"] for row in csv.DictReader(text)})


def test_export_memory_is_flat_and_other_requests_are_answered(
    database_url: str, tmp_path: Path
) -> None:
    with serving(database_url, tmp_path) as (server, http):
        for path in PATHS:  # the first use imports modules
            download(http, path, tmp_path / "small")
        fill(database_url, http.get("/me").json()["id"])
        for path, form in PATHS.items():
            base, file = resident(server.pid), tmp_path / "file"
            began = time.perf_counter()
            with Watch(server.pid, str(http.base_url)) as watch:
                download(http, path, file)
            took, more = time.perf_counter() - began, max(watch.memory) - base
            print(  # noqa: T201  # a measurement, visible with -s
                f"\n{database_url.partition(':')[0]} {path}: {took:.1f} s, "
                f"{file.stat().st_size / 1e6:.0f} MB, memory +{more / 1024:.1f} MB, "
                f"/health/live p99 {watch.p99 * 1000:.0f} ms of {len(watch.seconds)}"
            )
            assert EVENTS <= count_of(file, form) <= EVENTS + 10
            assert more < MEMORY
            assert watch.p99 < P99


def test_database_failure_truncates_the_export(sqlite_url: str, tmp_path: Path) -> None:
    with serving(sqlite_url, tmp_path) as (server, http):
        fill(sqlite_url, http.get("/me").json()["id"])
        database = Path(parse_url(sqlite_url).database or "")
        for path in PATHS:
            aside = database.with_suffix(".aside")
            with http.stream("GET", path) as answer:
                assert answer.status_code == 200
                parts = answer.iter_raw(1024)
                next(parts)
                database.rename(aside)
                try:
                    # Without the last chunk, an HTTP/1.1 client knows that the file is incomplete.
                    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                        for _ in parts:
                            pass
                finally:
                    aside.rename(database)
            assert http.get("/health/live").status_code == 200
            assert http.get("/me").status_code == 200
        assert "export ended early" in server.output()


def test_closed_connection_ends_the_export(sqlite_url: str, tmp_path: Path) -> None:
    with serving(sqlite_url, tmp_path) as (server, http):
        fill(sqlite_url, http.get("/me").json()["id"])
        for path in PATHS:
            with http.stream("GET", path) as answer:
                next(answer.iter_raw(1024))
            # The process becomes idle: the export has ended together with its connection.
            deadline = time.monotonic() + 20
            while busy(server.pid) > 0.02:
                assert time.monotonic() < deadline
        assert "Traceback" not in server.output()
        assert "ERROR" not in server.output()


def busy(pid: int) -> float:
    """CPU seconds that a process uses within half a second."""

    def used() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(0.5)
    return used() - before


def test_export_command_memory_is_flat(sqlite_url: str, tmp_path: Path) -> None:
    def export() -> int:
        """The peak memory of `authapi events export`, in KiB."""
        environment = {
            "PATH": os.environ["PATH"],
            "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
            "AUTHAPI_DATABASE_URL": sqlite_url,
        }
        command = [sys.executable, "-m", "authapi", "events", "export", "--format", "csv"]
        with (tmp_path / "file").open("wb") as file:
            process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=file)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss

    export()
    base = export()
    fill(sqlite_url, str(uuid4()))
    assert export() - base < MEMORY
    assert count_of(tmp_path / "file", "csv") >= EVENTS
