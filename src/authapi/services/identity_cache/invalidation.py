"""Invalidates cached identities when another process changes the same database.

PostgreSQL: one connection listens for the notifications that commits send. Heartbeats prove that it
still receives them. A heartbeat is a statement on that connection: PostgreSQL signals the listeners
before it acknowledges a commit, and a session sends its notifications before it is ready again. So
after the answer, the cache knows every change whose commit was acknowledged before the statement
was sent, and it is current for `max_staleness` from that moment. Without an answer the cache is not
used, until the connection is back and the cache has been cleared. This detects every failure of the
channel: a closed connection, and a silent one. A connection to another server than the pool's hears
nothing of its commits, so both have to be connected to one.

Behind a pooler, a heartbeat is a notification that another connection sends, because a statement on
the listening one would make the pooler link a session, perhaps not the one that listens. As
PostgreSQL delivers notifications in the order of commits, one that arrives has passed all earlier
ones, and a pooler that has taken the session away delivers none (`Listener.is_pooled`).

SQLite: the header of the database file is read, and its answer is exact. It is read at most once in
5 ms.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from authapi.crypto.ids import new_id
from authapi.errors import StorageUnavailable
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.storage import Database
from authapi.storage.notifications import (
    ALL_USERS,
    Listener,
    OnChange,
    PostgresNotifications,
)
from authapi.storage.sqlite import SQLiteInvalidation, SQLiteNotifications

_log = logging.getLogger(__name__)

_HEARTBEATS_PER_STALENESS = 4
_HEARTBEAT = "heartbeat"


async def announce_changes(database: Database, user_ids: Collection[UUID]) -> None:
    """Makes every process forget its cached identities of these users, before this call returns.

    Other processes follow as after a change of the account. Raises StorageUnavailable if the
    database does not answer.
    """
    if user_ids:
        async with database.transaction() as store:
            store.transaction.changed(*user_ids)


class CacheInvalidation(Protocol):
    """Tells whether the identity cache is current, and invalidates it when it is not."""

    def is_current(self) -> bool:
        """Whether the cache has seen all changes. Call it before each use of the cache.

        It may clear the cache first.
        """

    @property
    def lag(self) -> float:
        """Seconds that the last notification took; infinite while the cache is not used."""

    async def start(self) -> None:
        """Begins to receive changes."""

    async def stop(self) -> None:
        """Stops receiving changes."""


def invalidation_of(
    database: Database, on_change: Sequence[OnChange], max_staleness: timedelta
) -> CacheInvalidation:
    """Returns the implementation for the kind of `database`.

    All `on_change`, one of which invalidates the cache, are called with the users that another
    process has changed.
    """
    notifications = database.notifications
    if isinstance(notifications, PostgresNotifications):
        return PostgresInvalidation(notifications, on_change, max_staleness.total_seconds())
    if isinstance(notifications, SQLiteNotifications):
        return SQLiteInvalidation(notifications, on_change)
    raise TypeError(type(notifications).__name__)


class PostgresInvalidation:
    """Listens for notifications of PostgreSQL in a background task.

    `max_staleness`, in seconds, bounds how long the cache may miss a change.
    """

    def __init__(
        self,
        notifications: PostgresNotifications,
        on_change: Sequence[OnChange],
        max_staleness: float,
    ) -> None:
        self._notifications = notifications
        self._on_change = on_change
        self._max_staleness = max_staleness
        self._heartbeat_interval = max_staleness / _HEARTBEATS_PER_STALENESS
        self._current_until = 0.0
        self._lag = math.inf
        self._is_listening = asyncio.Event()
        self._is_reported = False
        """Whether the log says that the cache is off."""
        self._task = PeriodicTask(
            "cache-invalidation",
            self._listen,
            interval=self._heartbeat_interval,
            on_error=self._log_failure,
            at_once=True,
        )

    def is_current(self) -> bool:
        return time.monotonic() < self._current_until

    @property
    def lag(self) -> float:
        return self._lag if self.is_current() else math.inf

    async def start(self) -> None:
        # An event belongs to one event loop; the next start may run in another one.
        self._is_listening = asyncio.Event()
        self._is_reported = False
        self._task.start()
        # Wait, so that the cache works from the first request on. The service starts without it.
        try:
            async with asyncio.timeout(self._max_staleness):
                await self._is_listening.wait()
        except TimeoutError:
            self._report("no change notification has arrived since the start")

    async def stop(self) -> None:
        await self._task.stop()
        self._current_until = 0.0

    async def _listen(self) -> None:
        # One run lasts as long as one connection.
        try:
            async with self._notifications.listen(
                operation_timeout=self._max_staleness
            ) as listener:
                # Entries read before this connection listened may have missed a notification.
                self._announce((ALL_USERS,))
                if listener.is_pooled:
                    await self._receive_behind_pooler(listener)
                else:
                    await self._receive(listener)
        except StorageUnavailable as error:
            self._report(f"change notifications are lost ({type(error.__cause__).__name__})")
        finally:
            self._current_until = 0.0
            self._is_listening.clear()

    def _log_failure(self, error: Exception) -> None:
        self._report("an error in the listening task")
        _log.error("change notifications failed", exc_info=error)

    def _report(self, reason: str) -> None:
        if not self._is_reported:
            self._is_reported = True
            _log.warning("identity cache off, each request asks the database: %s", reason)

    async def _receive(self, listener: Listener) -> None:
        for _ in itertools.count():
            await self._require_one_server(listener)
            sent_at = time.monotonic()
            async with self._task.uninterrupted:
                messages = await listener.beat()
            for message in messages:
                self._apply(message)
            self._prove(sent_at)
            async for message in listener.receive(max_wait=self._heartbeat_interval):
                self._apply(message)

    async def _require_one_server(self, listener: Listener) -> None:
        # During a fail-over, the old primary may still answer heartbeats while the pool has reached
        # the new one, whose commits it does not announce.
        if self._notifications.shares_server(listener):
            return
        self._current_until = 0.0
        async with self._task.uninterrupted, asyncio.timeout(self._max_staleness):
            await self._notifications.find_server()
        if not self._notifications.shares_server(listener):
            self._report("the listening connection and the pool reach different servers")
            raise StorageUnavailable from ConnectionError("two servers")

    async def _receive_behind_pooler(self, listener: Listener) -> None:
        # A new name for each connection: a heartbeat of an earlier one proves nothing for this one.
        name, proved_at = new_id().hex, time.monotonic()
        for number in itertools.count():
            heartbeat, sent_at = f"{_HEARTBEAT} {name} {number}", time.monotonic()
            if sent_at - proved_at > self._max_staleness:
                raise StorageUnavailable from TimeoutError("no heartbeat has come back")
            # Without a free connection it is not sent, and notifications are received all the same.
            with suppress(StorageUnavailable, TimeoutError):
                async with self._task.uninterrupted, asyncio.timeout(self._heartbeat_interval):
                    await self._notifications.send(heartbeat)
            async for message in listener.receive(max_wait=self._heartbeat_interval):
                if message == heartbeat:
                    proved_at = sent_at
                    self._prove(sent_at)
                else:
                    self._apply(message)

    def _prove(self, sent_at: float) -> None:
        """Uses the cache, as it knows all changes that were acknowledged before `sent_at`."""
        at = time.monotonic()
        if 0 < self._current_until <= at:
            self._report(f"a heartbeat took {at - sent_at:.1f} s")
        self._current_until = sent_at + self._max_staleness
        self._lag = at - sent_at
        self._is_listening.set()
        if self._is_reported and self.is_current():
            self._is_reported = False
            _log.info("identity cache on again")

    def _apply(self, message: str) -> None:
        if message.startswith(_HEARTBEAT):
            return  # of a process behind a pooler
        try:
            users = [UUID(text) for text in message.split()]
        except ValueError:
            # Any client of the database may send on the channel.
            _log.warning("malformed change notification: identity cache cleared")
            self._announce((ALL_USERS,))
        else:
            self._announce(users)

    def _announce(self, users: Collection[UUID]) -> None:
        for on_change in self._on_change:
            on_change(users)
