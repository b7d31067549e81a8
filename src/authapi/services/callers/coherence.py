"""Keeps what is known true while other processes change the same database.

On PostgreSQL one connection listens to the announcements that commits carry. That it still hears is
proved by beats: a message of our own that comes back has passed everything that was committed
before it was sent, so for `bound` after it was sent nothing older than `bound` can have been
missed. No beat, no trust: nobody is known until the channel is back, and everything older is
forgotten then. This holds however a channel fails: closed, silent, or behind a pooler that cannot
listen.

On SQLite the file itself is asked, and its answer is exact; it is not asked again within 5 ms.
"""

import asyncio
import itertools
import logging
import time
from abc import ABC, abstractmethod
from datetime import timedelta
from uuid import UUID

from authapi.crypto.ids import new_id
from authapi.errors import StorageUnavailable
from authapi.services.background.task import BackgroundTask
from authapi.services.callers.known import KnownCallers
from authapi.storage import Database
from authapi.storage.changes import Listener, PostgresChanges, SQLiteChanges

_log = logging.getLogger(__name__)

_BEATS_A_BOUND = 4
_BEAT = "beat"
_LOOK_AGAIN_AFTER = 0.005
"""Seconds. Each look is two system calls, a tenth of what a known caller costs under load."""


class Coherence(ABC):
    """Whether what is known may be used."""

    @classmethod
    def of(cls, database: Database, known: KnownCallers, bound: timedelta) -> "Coherence":
        """The one that fits the database."""
        if isinstance(database.changes, PostgresChanges):
            return Listening(database.changes, known, bound.total_seconds())
        if isinstance(database.changes, SQLiteChanges):
            return Watching(database.changes, known)
        raise TypeError(type(database.changes).__name__)

    @abstractmethod
    def holds(self) -> bool:
        """Whether no change can have been missed. Asked before each use of what is known."""

    @abstractmethod
    async def start(self) -> None:
        """Begin to hear."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop hearing."""


class Watching(Coherence):
    """On SQLite: asks the file."""

    def __init__(self, changes: SQLiteChanges, known: KnownCallers) -> None:
        self._changes = changes
        self._known = known
        self._look_at = 0.0

    def holds(self) -> bool:
        at = time.monotonic()
        if at >= self._look_at:
            self._look_at = at + _LOOK_AGAIN_AFTER
            if self._changes.unheard():
                self._known.forget()
        return True

    async def start(self) -> None:
        self._changes.close()  # open still if an earlier run was cut off
        self._changes.open()
        self.holds()  # the first look always finds something new

    async def stop(self) -> None:
        self._changes.close()
        self._known.forget()


class Listening(Coherence):
    """On PostgreSQL: listens, in a task of its own. `bound` is in seconds."""

    def __init__(self, changes: PostgresChanges, known: KnownCallers, bound: float) -> None:
        self._changes = changes
        self._known = known
        self._bound = bound
        self._pause = bound / _BEATS_A_BOUND
        self._good_until = 0.0
        self._heard = asyncio.Event()
        self._task = BackgroundTask("coherence", self._run)

    def holds(self) -> bool:
        return time.monotonic() < self._good_until

    async def start(self) -> None:
        self._heard = asyncio.Event()  # belongs to this event loop; the next start may have another
        self._task.start()
        # So that the first caller can be known. Without a channel the service starts all the same.
        try:
            async with asyncio.timeout(self._bound):
                await self._heard.wait()
        except TimeoutError:
            _log.warning("not hearing changes of other processes: nobody is known meanwhile")

    async def stop(self) -> None:
        await self._task.stop()
        self._good_until = 0.0

    async def _run(self) -> None:
        while True:
            try:
                async with self._changes.listening(patience=self._bound) as listener:
                    await self._follow(listener)
            except StorageUnavailable as error:
                if self._heard.is_set():
                    _log.warning("not hearing changes: %s", type(error.__cause__).__name__)
            except Exception:
                # This task must outlive whatever a driver raises: without it nobody is ever known.
                _log.exception("not hearing changes")
            self._good_until = 0.0
            self._heard.clear()
            await asyncio.sleep(self._pause)

    async def _follow(self, listener: Listener) -> None:
        # What was read before this connection listened may have missed what nobody told us.
        self._known.forget()
        # Under another name each time: no beat of an earlier connection may count for this one.
        name = new_id().hex
        for number in itertools.count():
            beat, sent_at = f"{_BEAT} {name} {number}", time.monotonic()
            async with self._task.whole:
                await listener.say(beat)
            async for message in listener.heard(within=self._pause):
                if message == beat:
                    self._good_until = sent_at + self._bound
                    self._heard.set()
                elif not message.startswith(_BEAT):
                    self._apply(message)

    def _apply(self, message: str) -> None:
        try:
            users = [UUID(text) for text in message.split()]
        except ValueError:
            # Whoever may connect to the database may speak on the channel.
            _log.warning("an announcement could not be read")
            self._known.forget()
        else:
            self._known.changed(users)
