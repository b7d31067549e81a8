"""Tells open connections that the session behind them has ended.

`SessionWatch` has all open connections of one application. It is told of changes (`changed`) with
the identity cache: of one by this process at once, of one by another by its notification. One
background task then checks all affected connections together. One timer ends the connections whose
credential expires. While connections are open, it also asks the invalidation of the cache every
`interval` whether it is current, which costs no query. All connections are checked every `max_age`,
and every `max_staleness` while it is not current.

A connection that cannot be checked for `max_age`, because the database does not answer, is ended:
the session may have ended in the meantime.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

from authapi.clock import now
from authapi.domain.identity import Identity
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.services.sessions.liveness import Life, Liveness
from authapi.storage.notifications import ALL_USERS

_log = logging.getLogger(__name__)

_LONGEST_SLEEP = 60.0
"""Seconds. The wall clock may be set while the timer sleeps."""
_IDLE_INTERVAL = 60.0
"""Seconds between two runs of the task that no change has caused."""
_CLOSING_TIMEOUT = 2.0
"""Seconds that `stop` waits until the clients have been told."""


class Ending(Enum):
    """Why a connection has to end."""

    SESSION_ENDED = "session_ended"
    """The credential does not authenticate its holder any more."""
    UNVERIFIED = "database_unavailable"
    """The database has not answered for too long."""
    STOPPED = "service_stopped"
    """The application shuts down."""


OnEnd = Callable[[Ending], asyncio.Task[None]]
"""Starts to close a connection. It must not raise or wait: it is called for one after the other."""


@dataclass(eq=False, slots=True)
class Watched:
    """One open connection."""

    identity: Identity
    is_account: bool
    """Whether the user is an account of this service; otherwise only the expiry counts."""
    on_end: OnEnd
    life: Life | None = None
    """The result of the last check; None before the first one."""
    ending: Ending | None = None
    unverified_since: float | None = None
    """When a check became necessary that has not succeeded yet, on the monotonic clock."""
    used_at: float = field(default=0.0)
    """When a use of the session was last recorded, on the monotonic clock."""

    @property
    def ends_at(self) -> datetime | None:
        """When the credential expires in any case, as far as known."""
        return self.identity.expires_at if self.life is None else self.life.ends_at


class SessionWatch:
    """The open connections of one application. Without `liveness`, they end at their expiry only.

    `start` and `stop` belong to the lifespan of the application.
    """

    def __init__(self, liveness: Liveness | None = None) -> None:
        self.liveness = liveness
        self._all: dict[Watched, None] = {}
        self._of_user: defaultdict[UUID, set[Watched]] = defaultdict(set)
        self._suspects: dict[Watched, None] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._wakeup = asyncio.Event()
        self._task: PeriodicTask | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._all_checked_at = 0.0
        self._is_failing = False

    def __len__(self) -> int:
        return len(self._all)

    def start(self) -> None:
        """Begins to watch, in the running event loop."""
        # Connections and tasks of an event loop that ended without `stop` are gone.
        for part in (self._all, self._of_user, self._suspects, self._closing):
            part.clear()
        self._timer, self._wakeup = None, asyncio.Event()
        self._task = PeriodicTask(
            "session-watch",
            self._check,
            interval=_IDLE_INTERVAL,
            on_error=self._log_failure,
            wakeup=self._wakeup,
        )
        self._task.start()

    async def stop(self) -> None:
        """Ends all connections, and waits up to two seconds until their clients have been told."""
        task, self._task = self._task, None
        for watched in list(self._all):
            self._end(watched, Ending.STOPPED)
        if task is not None:
            await task.stop()
        if closing := {item for item in self._closing if not item.done()}:
            _, late = await asyncio.wait(closing, timeout=_CLOSING_TIMEOUT)
            for item in late:
                item.cancel()

    @contextmanager
    def watching(self, identity: Identity, *, is_account: bool, on_end: OnEnd) -> Iterator[Watched]:
        """Watches a connection of this caller inside the block.

        `on_end` is called once, if the connection has to end. Raises RuntimeError before `start`
        and after `stop`.
        """
        if self._task is None:
            raise RuntimeError("authapi has not started: use FastAPI(lifespan=auth.lifespan)")
        watched = Watched(identity, is_account and self.liveness is not None, on_end)
        if not self._all:
            self._all_checked_at = time.monotonic()
        self._all[watched] = None
        if watched.is_account:
            self._of_user[identity.user.id].add(watched)
            # A change between the request and this moment has found no connection to end.
            self._suspect((watched,))
        self._arm((watched,))
        try:
            yield watched
        finally:
            self._forget(watched)

    def record_use(self, watched: Watched) -> None:
        """Records that the client of a connection has used its session, once in a second."""
        at = time.monotonic()
        if self.liveness is None or watched.life is None or at - watched.used_at < 1:
            return
        watched.used_at = at
        self.liveness.record_use(watched.identity, watched.life)

    def changed(self, users: Collection[UUID]) -> None:
        """Checks the connections of these users; `ALL_USERS` among them stands for all.

        Call it after the change is committed, in the event loop of the application.
        """
        if not self._all or self._task is None:
            return
        if ALL_USERS in users:
            self._suspect_all()
            return
        for user in users:
            self._suspect(self._of_user.get(user, ()))

    def _suspect_all(self) -> None:
        self._all_checked_at = time.monotonic()
        self._suspect([watched for watched in self._all if watched.is_account])

    def _suspect(self, some: Collection[Watched]) -> None:
        at = time.monotonic()
        for watched in some:
            self._suspects[watched] = None
            if watched.unverified_since is None:
                watched.unverified_since = at
        if some:
            self._wakeup.set()

    async def _check(self) -> None:
        # Connections that a change affects while the query runs are suspects of the next run.
        batch, task = list(self._suspects), self._task
        self._suspects.clear()
        if self.liveness is None or not batch or task is None:
            return
        try:
            async with task.uninterrupted:
                lives = await self.liveness.find([watched.identity for watched in batch])
        except BaseException:
            self._suspects.update(dict.fromkeys(item for item in batch if item in self._all))
            raise
        self._is_failing = False
        for watched, life in zip(batch, lives, strict=True):
            if watched not in self._all:
                continue  # closed while the query ran
            before, watched.life = watched.life, life
            if life is None or (before is not None and before.bound_to != life.bound_to):
                self._end(watched, Ending.SESSION_ENDED)
            elif watched not in self._suspects:
                watched.unverified_since = None
        self._arm(batch)

    def _log_failure(self, error: Exception) -> None:
        if not self._is_failing:  # the timer repeats the check, and each would be logged
            _log.warning("open connections not checked, will retry", exc_info=error)
        self._is_failing = True

    def _tick(self) -> None:
        self._timer = None
        liveness, at = self.liveness, time.monotonic()
        if liveness is not None and self._of_user:
            limit = liveness.max_age if liveness.is_current() else liveness.max_staleness
            if at - self._all_checked_at >= limit:
                self._suspect_all()
        moment = now()
        for watched in list(self._all):
            since, life = watched.unverified_since, watched.life
            if watched.ends_at is not None and moment >= watched.ends_at:
                self._end(watched, Ending.SESSION_ENDED)
            elif liveness is not None and since is not None and at - since >= liveness.max_age:
                self._end(watched, Ending.UNVERIFIED)
            elif life is not None and life.idle_ends_at and moment >= life.idle_ends_at:
                # The session may have been used since: the check knows.
                self._suspect((watched,))
        if self._suspects:
            self._wakeup.set()  # also if the last check has failed
        self._arm(self._all)

    def _arm(self, some: Collection[Watched]) -> None:
        """Sets the timer, unless it runs before, to the moment at which one of these may end."""
        if not self._all or self._task is None:
            return
        delay = _LONGEST_SLEEP
        if self.liveness is not None and self._of_user:
            delay = min(delay, self.liveness.interval)
        ends = [watched.ends_at for watched in some if watched.ends_at is not None]
        if ends:
            delay = min(delay, max((min(ends) - now()).total_seconds(), 0))
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._tick)

    def _end(self, watched: Watched, ending: Ending) -> None:
        self._forget(watched)
        watched.ending = ending
        closing = watched.on_end(ending)
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _forget(self, watched: Watched) -> None:
        self._all.pop(watched, None)
        self._suspects.pop(watched, None)
        users = self._of_user.get(watched.identity.user.id)
        if users is not None:
            users.discard(watched)
            if not users:
                del self._of_user[watched.identity.user.id]
        if not self._all and self._timer is not None:
            self._timer.cancel()
            self._timer = None
