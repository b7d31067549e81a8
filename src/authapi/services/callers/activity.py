"""When each session was last used, written down in batches.

A request that only reads must not write. Uses are kept in memory, counted at once by this process,
and flushed together every `last_seen_interval` and at shutdown; a crash loses at most that much of
"last seen", and nothing else.

A use counts from memory until the flush after the one that has written it: a session may have been
read just before that was committed, and be looked at just after.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from uuid import UUID

from authapi.identity import Session
from authapi.services.background.task import BackgroundTask
from authapi.settings import Settings
from authapi.storage import Database

_log = logging.getLogger(__name__)

_LAST_FLUSHES, _LAST_PAUSE = 10, 0.05
"""How often `stop` flushes, and how many seconds apart, while other transactions hold sessions."""

_Uses = dict[UUID, tuple[datetime, datetime | None]]
"""When each session was used last, and when it expires for idleness since."""


class Activity:
    """Remembers uses of sessions until they are written down."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._interval = settings.last_seen_interval.total_seconds()
        self._seen: _Uses = {}
        self._written: _Uses = {}
        """What the last flush has written."""
        self._task = BackgroundTask("activity", self._run)

    def saw(self, session_id: UUID, at: datetime, *, idle: timedelta | None) -> None:
        """Note a use of a session that ends after `idle` without one."""
        self._seen[session_id] = (at, None if idle is None else at + idle)

    def last_seen(self, session_id: UUID, written: datetime) -> datetime:
        """The latest use known here, where `written` is the one that was written down."""
        pending = self._seen.get(session_id) or self._written.get(session_id)
        return written if pending is None else max(written, pending[0])

    def is_idle(
        self, session_id: UUID, at: datetime, *, written: datetime, idle: timedelta | None
    ) -> bool:
        """Whether a session that ends after `idle` without use has ended that way."""
        return idle is not None and at >= self.last_seen(session_id, written) + idle

    def ends_at(self, session: Session) -> datetime:
        """When a session ends unless it is used before, or something else ends it."""
        if session.idle is None:
            return session.expires_at
        return min(
            session.expires_at, self.last_seen(session.id, session.last_seen_at) + session.idle
        )

    def is_over(self, session: Session, at: datetime) -> bool:
        """Whether a session, as it was read just now, has come to its end."""
        return at >= self.ends_at(session)

    async def flush(self) -> None:
        """Write down what is noted. What cannot be written stays noted.

        That is everything if it fails, and else what is about sessions that other transactions
        hold at the moment.
        """
        batch = dict(self._seen)
        busy: set[UUID] = set()
        if batch:
            async with self._database.transaction() as store:
                # One process at a time: two that write many rows only get in each other's way.
                await store.wait_turn("activity")
                busy = await store.sessions.saw((key, *use) for key, use in batch.items())
        self._written = {key: use for key, use in batch.items() if key not in busy}
        for key, use in self._written.items():
            if self._seen.get(key) is use:  # not used again meanwhile
                del self._seen[key]

    def start(self) -> None:
        """Begin to flush in the background."""
        self._task.start()

    async def stop(self) -> None:
        """End the background task and write down the rest."""
        await self._task.stop()
        try:
            for _ in range(_LAST_FLUSHES):
                await self.flush()
                if not self._seen:
                    break
                await asyncio.sleep(_LAST_PAUSE)
            failure = None
        except Exception as error:
            failure = error  # what comes after this at shutdown must happen all the same
        if self._seen:
            unwritten = "the last uses of %d sessions were not written"
            _log.warning(unwritten, len(self._seen), exc_info=failure)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                async with self._task.whole:
                    await self.flush()
            except Exception:
                # This task must outlive every failure of the database.
                _log.warning("uses of sessions not written yet", exc_info=True)
