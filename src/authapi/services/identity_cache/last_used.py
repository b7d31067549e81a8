"""The time of the last use of each session, written in batches.

A request that only reads must not write to the database. `LastUsed` keeps uses in memory, where
this process takes them into account at once, and writes them together every `last_seen_interval`
and at shutdown. A crash loses the uses of at most one interval.

A use stays in memory until the flush after the one that wrote it: a request may have read its
session just before that flush was committed, and check it just after.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from uuid import UUID

from authapi.domain.session import Session
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.settings import Settings
from authapi.storage import Database

_log = logging.getLogger(__name__)

_FINAL_FLUSHES, _FINAL_PAUSE = 10, 0.05
"""How often `stop` flushes while other transactions lock sessions, and the seconds in between."""

_Uses = dict[UUID, tuple[datetime, datetime | None]]
"""For each session the time of its last use, and when it expires for idleness after that."""


class LastUsed:
    """Keeps uses of sessions in memory until they are written."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._pending: _Uses = {}
        self._written: _Uses = {}
        """The uses that the last flush wrote."""
        self._task = PeriodicTask(
            "last-used",
            self._flush_uninterrupted,
            interval=settings.last_seen_interval.total_seconds(),
            on_error=self._log_failure,
        )

    def record(self, session_id: UUID, at: datetime, *, idle: timedelta | None) -> None:
        """Records a use at `at`. `idle` is the idle timeout of the session; None for none."""
        self._pending[session_id] = (at, None if idle is None else at + idle)

    def last_seen(self, session_id: UUID, stored: datetime) -> datetime:
        """Returns the later of `stored`, the time in the database, and the last use in memory."""
        pending = self._pending.get(session_id) or self._written.get(session_id)
        return stored if pending is None else max(stored, pending[0])

    def is_idle(
        self, session_id: UUID, at: datetime, *, stored: datetime, idle: timedelta | None
    ) -> bool:
        """Whether the idle timeout `idle` of a session has passed at `at`."""
        return idle is not None and at >= self.last_seen(session_id, stored) + idle

    def ends_at(self, session: Session) -> datetime:
        """Returns when a session expires unless it is used or ended before."""
        if session.idle is None:
            return session.expires_at
        return min(
            session.expires_at, self.last_seen(session.id, session.last_seen_at) + session.idle
        )

    def is_over(self, session: Session, at: datetime) -> bool:
        """Whether a session, as just read from the database, has expired at `at`."""
        return at >= self.ends_at(session)

    async def flush(self) -> None:
        """Writes the pending uses. A use that cannot be written stays pending.

        Those are all of them if the call raises, else the uses of sessions that other transactions
        have locked. Raises StorageUnavailable.
        """
        batch = dict(self._pending)
        busy: set[UUID] = set()
        if batch:
            async with self._database.transaction() as store:
                # One process at a time: two that write many rows only slow each other down.
                await store.advisory_lock("last used")
                busy = await store.sessions.record_uses((key, *use) for key, use in batch.items())
        self._written = {key: use for key, use in batch.items() if key not in busy}
        for key, use in self._written.items():
            if self._pending.get(key) is use:  # else it was used again during the flush
                del self._pending[key]

    def start(self) -> None:
        """Starts the background task that flushes."""
        self._task.start()

    async def stop(self) -> None:
        """Stops the background task and writes the pending uses; logs how many it could not write.

        Raises no error of a flush: the shutdown goes on.
        """
        await self._task.stop()
        try:
            for _ in range(_FINAL_FLUSHES):
                await self.flush()
                if not self._pending:
                    break
                await asyncio.sleep(_FINAL_PAUSE)
            failure = None
        except Exception as error:
            failure = error
        if self._pending:
            message = "last uses of %d sessions not written"
            _log.warning(message, len(self._pending), exc_info=failure)

    async def _flush_uninterrupted(self) -> None:
        async with self._task.uninterrupted:
            await self.flush()

    @staticmethod
    def _log_failure(error: Exception) -> None:
        _log.warning("last uses of sessions not written, will retry", exc_info=error)
