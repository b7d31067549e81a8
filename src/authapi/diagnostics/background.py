"""Runs the checks for a running service, in threads and within a bound of time.

A page of the service waits for them. So they share few threads, one that does not end keeps no
other one from its result, and a result is kept for a while.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from authapi.clock import now
from authapi.domain.monitoring.findings import Finding, Report
from authapi.services.monitoring.kept import Kept

_log = logging.getLogger(__name__)

TIMEOUT: Final = 3.0
"""Seconds until a report lacks the checks that have not ended."""
MAX_AGE: Final = 60.0
"""Seconds that a report is kept."""
_THREADS: Final = 3

Checks = Mapping[str, Callable[[], Iterable[Finding]]]


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    check: Callable[[], Iterable[Finding]]
    result: "asyncio.Future[Sequence[Finding]]"


class BackgroundChecks:
    """Runs the checks that `load` returns, which is called in a thread. Errors become findings."""

    def __init__(
        self, load: Callable[[], Checks], *, timeout: float = TIMEOUT, max_age: float = MAX_AGE
    ) -> None:
        self._load = load
        self._timeout = timeout
        self._kept = Kept(self._run, max_age=max_age)
        self._running = set[str]()
        """The checks that a thread runs at present. A check is not run twice at a time."""

    async def report(self) -> Report:
        """Returns the findings, at most `max_age` seconds old. Concurrent calls share one run."""
        return await self._kept.get()

    async def _run(self) -> Report:
        loop = asyncio.get_running_loop()
        checks = await asyncio.to_thread(self._load)
        jobs, findings = SimpleQueue[_Job](), dict[str, Sequence[Finding]]()
        waiting = dict[str, asyncio.Future[Sequence[Finding]]]()
        for name, check in checks.items():
            findings[name] = [Finding(name, "warning", f"no result in {self._timeout:g} seconds")]
            if name not in self._running:
                waiting[name] = loop.create_future()
                jobs.put(_Job(name, check, waiting[name]))
        for _ in range(_THREADS):
            # Not of a pool: the process would wait at its end for a check that does not end.
            threading.Thread(target=self._work, args=(jobs, loop), daemon=True).start()
        if waiting:
            await asyncio.wait(waiting.values(), timeout=self._timeout)
        self._discard(jobs)
        findings |= {name: it.result() for name, it in waiting.items() if it.done()}
        return Report([item for found in findings.values() for item in found], now())

    def _work(self, jobs: SimpleQueue[_Job], loop: asyncio.AbstractEventLoop) -> None:
        with suppress(Empty):
            while True:
                job = jobs.get_nowait()
                self._running.add(job.name)
                try:
                    found = _findings(job)
                finally:
                    self._running.discard(job.name)
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(_resolve, job.result, found)

    @staticmethod
    def _discard(jobs: SimpleQueue[_Job]) -> None:
        with suppress(Empty):
            while True:
                jobs.get_nowait()


def _findings(job: _Job) -> Sequence[Finding]:
    try:
        return list(job.check())
    except Exception as error:
        _log.exception("check failed: %s", job.name)
        return [Finding(job.name, "error", f"failed: {type(error).__name__}")]


def _resolve(result: "asyncio.Future[Sequence[Finding]]", found: Sequence[Finding]) -> None:
    if not result.done():
        result.set_result(found)
