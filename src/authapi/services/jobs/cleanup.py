"""Deletes expired rows of every table at intervals.

Every process of a service runs this task; a lock for each table lets one of them delete at a time.
Rows are deleted in short transactions, so that requests do not wait for them and a process that
dies in between leaves nothing half done.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from authapi.clock import now
from authapi.services.audit import Audit
from authapi.services.jobs.outbox import Outbox
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.services.jobs.pruning import prune_in_batches
from authapi.services.keys import Keys
from authapi.services.sessions.service import Sessions
from authapi.settings import Settings
from authapi.storage import Database

_log = logging.getLogger(__name__)


class Cleanup:
    """Deletes the expired rows of every table, every `prune_interval`."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        audit: Audit,
        keys: Keys,
        outbox: Outbox,
        settings: Settings,
    ) -> None:
        self._database = database
        self._interval: timedelta = settings.prune_interval
        self._tasks: dict[str, Callable[[], Awaitable[int]]] = {
            "sessions": sessions.prune,
            "events": audit.prune,
            "signing keys": keys.prune,
            "outbox entries": outbox.prune,
            "email tokens": self._prune_email_tokens,
        }
        self._background = PeriodicTask("cleanup", self._run)

    def start(self) -> None:
        """Starts the background task."""
        self._background.start()

    async def stop(self) -> None:
        """Stops the background task. The transaction in progress, if any, is rolled back."""
        await self._background.stop()

    async def run_once(self) -> dict[str, int]:
        """Runs every task once. Returns the number of rows deleted by each task that succeeded.

        The error of a task is logged, and the task runs again after the interval.
        """
        removed = {}
        for name, task in self._tasks.items():
            try:
                removed[name] = await task()
            except Exception:
                # One failure must not keep the other tasks from running, nor end the background.
                _log.warning("cleanup of %s failed, will retry", name, exc_info=True)
        return removed

    async def _prune_email_tokens(self) -> int:
        return await prune_in_batches(
            self._database,
            "email tokens",
            lambda store, limit: store.email_tokens.prune(now=now(), limit=limit),
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            removed = await self.run_once()
            if any(removed.values()):
                _log.info("expired rows deleted", extra={"removed": removed})
