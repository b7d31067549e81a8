"""Deletes what has expired at intervals: each service that keeps rows has a task of its own.

Every process of a service runs the tasks; a lock for each table lets one of them delete at a time.
Rows are deleted in short transactions, so that requests do not wait for them and a process that
dies in between leaves nothing half done.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from authapi.domain.monitoring.signals import Signals
from authapi.services.jobs.periodic_task import PeriodicTask

_log = logging.getLogger(__name__)

Prune = Callable[[], Awaitable[int]]
"""Deletes what has expired, and returns how many rows it deleted."""


class Cleanup:
    """Runs the registered tasks, every `interval`."""

    def __init__(self, interval: timedelta, signals: Signals | None = None) -> None:
        self._signals = signals or Signals()
        self._tasks: dict[str, Prune] = {}
        self._background = PeriodicTask(
            "cleanup",
            self._run_and_log,
            interval=interval.total_seconds(),
            on_error=self._log_failure,
        )

    def register(self, name: str, prune: Prune) -> None:
        """Registers a task. `name` says in logs what it deletes, such as "sessions"."""
        self._tasks[name] = prune

    def start(self) -> None:
        """Starts the background task."""
        self._signals.cleanup_started(self.names)
        self._background.start()

    async def stop(self) -> None:
        """Stops the background task. The transaction in progress, if any, is rolled back."""
        await self._background.stop()

    @property
    def names(self) -> Sequence[str]:
        """What the registered tasks delete, in the order in which they run."""
        return list(self._tasks)

    async def run_once(self, *, only: str | None = None) -> dict[str, int]:
        """Runs every task once, or `only` one. Returns the rows deleted by each that succeeded.

        The error of a task is logged, and the task runs again after the interval.
        """
        removed = {}
        for name, task in self._tasks.items():
            if only not in (None, name):
                continue
            try:
                removed[name] = await task()
                self._signals.cleaned(name, removed[name])
            except Exception:
                # One failure must not keep the other tasks from running.
                _log.warning("cleanup of %s failed, will retry", name, exc_info=True)
        return removed

    async def _run_and_log(self) -> None:
        removed = await self.run_once()
        if any(removed.values()):
            _log.info("expired rows deleted", extra={"removed": removed})

    @staticmethod
    def _log_failure(error: Exception) -> None:
        _log.warning("cleanup failed, will retry", exc_info=error)
