"""Work that comes back by itself: rows that have had their time are removed.

Every process of a service would do it; by taking turns, one at a time does. A batch is one short
transaction, so that nobody waits for it, and a process that dies in between has done no harm.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from authapi.clock import now
from authapi.services.audit import Audit
from authapi.services.background.outbox import Outbox
from authapi.services.background.pruning import prune
from authapi.services.background.task import BackgroundTask
from authapi.services.keys import Keys
from authapi.services.sessions import Sessions
from authapi.settings import Settings
from authapi.storage import Database

_log = logging.getLogger(__name__)


class Housekeeping:
    """Removes what had its time, of every table, every `prune_interval`."""

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
        self._chores: dict[str, Callable[[], Awaitable[int]]] = {
            "sessions": sessions.prune,
            "events": audit.prune,
            "signing keys": keys.prune,
            "entries of the outbox": outbox.prune,
            "one-time secrets": self._prune_secrets,
        }
        self._task = BackgroundTask("housekeeping", self._run)

    def start(self) -> None:
        """Begin, in the background."""
        self._task.start()

    async def stop(self) -> None:
        """End it; a batch at hand is taken back."""
        await self._task.stop()

    async def work(self) -> dict[str, int]:
        """Do everything once; how many rows went, by chore. What fails is tried again next time."""
        removed = {}
        for name, chore in self._chores.items():
            try:
                removed[name] = await chore()
            except Exception:
                # One chore must not keep the others from being done, nor end the task.
                _log.warning("old %s not removed this time", name, exc_info=True)
        return removed

    async def _prune_secrets(self) -> int:
        return await prune(
            self._database,
            "one-time secrets",
            lambda store, limit: store.one_time_secrets.prune(now=now(), limit=limit),
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            removed = await self.work()
            if any(removed.values()):
                _log.info("removed what had ended", extra={"removed": removed})
