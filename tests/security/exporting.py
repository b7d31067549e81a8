"""Many events, their export, and the cost of the export for a server."""

import statistics
import threading
import time
from pathlib import Path
from uuid import UUID

import httpx
import sqlalchemy as sa

from authapi.storage.urls import parse_url

EVENTS = 200_000


def fill(url: str, user_id: str) -> None:
    """Insert events of the account with one SQL statement."""
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
    # The parts are constants.
    statement = f"{numbers} INSERT INTO authapi_events ({columns}) SELECT {values} FROM {source}"
    synchronous = parse_url(url).set(
        drivername="sqlite" if url.startswith("sqlite") else "postgresql+psycopg"
    )
    engine = sa.create_engine(synchronous)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


class Watch:
    """Polls `/health/live` and the memory of a process until the block ends."""

    def __init__(self, pid: int, base_url: str) -> None:
        self.seconds: list[float] = []
        self.memory: list[int] = []
        self._pid, self._url = pid, base_url
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
        """The 99th percentile of the response times of `/health/live`, in seconds."""
        return statistics.quantiles(self.seconds, n=100)[-1]


def resident(pid: int) -> int:
    """The resident memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError("VmRSS")


def download(http: httpx.Client, path: str, target: Path) -> None:
    """Stream the response into a file."""
    with http.stream("GET", path) as answer, target.open("wb") as file:
        assert answer.status_code == 200
        for part in answer.iter_bytes():
            file.write(part)


PATHS = {
    "/me/export": "json",
    "/admin/events/export?format=jsonl": "jsonl",
    "/admin/events/export?format=csv": "csv",
}
