"""Numbers of rows for the metrics, counted once a minute by one of the workers of a host."""

import logging
from typing import TYPE_CHECKING, Final

from authapi.clock import now
from authapi.domain.signing_key import KeyState
from authapi.errors import StorageUnavailable
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.services.monitoring.statistics import StatisticsService
from authapi.settings import Settings
from authapi.storage import Database

if TYPE_CHECKING:
    from authapi.services.metrics import Metrics

INTERVAL: Final = 60.0
"""Seconds between two counts."""
KINDS: Final = ("mail", "request", "webhook")
"""The kinds of entries of the outbox. Those without an entry count 0."""
PERSONAL: Final = "personal"
"""Stands for personal access tokens, which are no logins."""

_log = logging.getLogger(__name__)


class StoredNumbers:
    """Sets the gauges of sessions, of the outbox, of the signing key and of the versions."""

    def __init__(self, database: Database, metrics: "Metrics", settings: Settings) -> None:
        self._database = database
        self._metrics = metrics
        self._statistics = StatisticsService(database, settings)
        self._has_versions = False
        self._task = PeriodicTask(
            "stored-numbers",
            self.count,
            interval=INTERVAL,
            on_error=self._log_failure,
            at_once=True,
        )

    def start(self) -> None:
        """Starts to count, at once and then every minute."""
        self._task.start()

    async def stop(self) -> None:
        """Stops."""
        await self._task.stop()

    async def count(self) -> None:
        """Counts, unless another worker of this host does. Raises StorageUnavailable."""
        if not self._metrics.may_count():
            return
        if not self._has_versions:
            found = await self._statistics.versions()
            self._metrics.set_versions(
                version=found.authapi,
                python=found.python,
                database=found.database,
                schema=found.schema,
            )
            self._has_versions = True
        at = now()
        async with self._task.uninterrupted, self._database.read() as store:
            sessions = await store.counts.sessions(now=at)
            queues = {queue.kind: queue for queue in await store.counts.queues()}
            keys = await store.signing_keys.all()
        by_kind = {kind.value: count for kind, count in sessions.logins.items()}
        self._metrics.set_sessions({**by_kind, PERSONAL: sessions.personal_tokens})
        for kind in sorted({*KINDS, *queues}):
            queue = queues.get(kind)
            oldest = queue.oldest_at if queue else None
            self._metrics.set_outbox(
                kind,
                waiting=queue.waiting if queue else 0,
                given_up=queue.given_up if queue else 0,
                oldest=0.0 if oldest is None else max(0.0, (at - oldest).total_seconds()),
            )
        ages = [
            (at - (key.activated_at or key.created_at)).total_seconds()
            for key in keys
            if key.state is KeyState.ACTIVE
        ]
        self._metrics.set_key_age(max(0.0, min(ages, default=0.0)))

    @staticmethod
    def _log_failure(error: Exception) -> None:
        cause = None if isinstance(error, StorageUnavailable) else error
        _log.warning("numbers of rows not counted, will retry", exc_info=cause)
