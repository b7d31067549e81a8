"""What clients observe around the promotion of a standby."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from tests.faults.harness.http_client import Client, Lost
from tests.faults.harness.load import Load


@dataclass
class Promotion:
    """The answers after a promotion at `at`, a value of `time.monotonic()`."""

    at: float
    bad: list[float] = field(default_factory=list)
    """For each login that failed, the seconds from the promotion to its answer."""

    async def log_in(self, client: Client, body: object, *, seconds: float) -> None:
        """Logs in repeatedly until that many seconds after the promotion."""
        while time.monotonic() < self.at + seconds:
            try:
                answer = await client.post("/login", body)
            except Lost:
                self.bad.append(time.monotonic() - self.at)
            else:
                if answer.status != 200:
                    self.bad.append(time.monotonic() - self.at)
            await asyncio.sleep(0.02)

    def last_error(self, traffic: Load) -> float:
        """The seconds from the promotion to the last answer that was not good, at least 0.0."""
        reads = [
            started_at + seconds - self.at
            for started_at, seconds, status in traffic.latencies
            if status in {0, 503}
        ]
        return max([0.0, *self.bad, *reads])

    def summary(self, traffic: Load, problems: Sequence[object]) -> str:
        """The figures of a run, for its report. `problems` are the facts that do not hold."""
        ledger = traffic.ledger
        return (
            f"{ledger.summary()}; lost, half done or doubled {len(problems)}; revoked accepted"
            f" {len(traffic.violations)} of {traffic.tried}; last error"
            f" {self.last_error(traffic):.2f} s after the promotion, slowest {ledger.slowest:.1f} s"
        )


def wait_for_promotion(url: str, *, within: float) -> float:
    """Waits until the standby at `url` accepts writes. Returns the time by `time.monotonic()`."""
    deadline = time.monotonic() + within
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not promoted within {within} s")
            time.sleep(0.01)
    return time.monotonic()
