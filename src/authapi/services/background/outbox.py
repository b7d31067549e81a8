"""What is done after a commit, because of it: asked for inside of the transaction, never lost.

An entry is written together with the change that it tells of. When that is committed, one process
claims the entry (`deliveries`), which puts it off for others, does what it asks for, and removes
it. If that process dies in between, the entry is due again after its lease: it is done at least
once, under the same id.
"""

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from authapi.crypto.ids import new_id
from authapi.errors import DeliveryFailed, SealBroken, StorageUnavailable
from authapi.services.background.deliveries import Deliveries
from authapi.services.background.pruning import prune
from authapi.services.background.receivers import EntryFailed, Receiver
from authapi.services.background.steady import SteadyClock
from authapi.services.background.task import BackgroundTask
from authapi.services.keys import Keys, outbox_context
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.tables.outbox import Entry

_log = logging.getLogger(__name__)

_POLL = 2.0
"""Seconds after which a process looks for what others have written, or what is due again."""
_STEPS = 4
"""One delivery may take as long as so many steps of it, of `mail_timeout` seconds each."""
_LEASE_MARGIN = 5.0
"""Seconds between the longest delivery and the end of its lease."""
_LONGEST_PAUSE = 900.0
_STEPS_OF_PAUSES = 12
"""The pauses after so many attempts and more are the longest."""
_SKEW = timedelta(seconds=30)
"""How far the clocks of several hosts may be apart."""
_RECALL = 60.0
"""Seconds between two looks for entries that a wrong clock has put off."""
_KEPT = timedelta(days=7)
"""How long entries that were given up stay, for an operator to look at."""

Payload = Mapping[str, Any]
Handler = Callable[[Entry, Payload], Awaitable[None]]
"""Does what an entry asks for. It may remove the entry in a transaction of its own; else it is
removed afterwards. Raises DeliveryFailed if it did not get through: EntryFailed if the reason is
the entry, and not its receiver."""

Ready = Callable[[], None]


class Outbox:
    """Entries and their handlers, one for each kind."""

    def __init__(self, database: Database, keys: Keys, settings: Settings) -> None:
        self._database = database
        self._keys = keys
        self._lifetime = settings.mail_lifetime
        self._patience = _STEPS * settings.mail_timeout
        self._handlers: dict[str, Handler] = {}
        self._ready: dict[str, Ready] = {}
        self._deliveries: dict[str, Deliveries] = {}
        self._tasks: list[BackgroundTask] = []
        self._is_away = False
        self._clock = SteadyClock()
        self._open()
        database.on_queued = self.wake

    def on(self, kind: str, handler: Handler, *, ready: Ready | None = None) -> None:
        """Let `handler` do the entries of `kind`; `start` calls `ready`, which may block."""
        self._handlers[kind] = handler
        if ready is not None:
            self._ready[kind] = ready
        self._deliveries[kind] = Deliveries(
            kind, self._database, self._clock, self._do, self._trouble
        )

    async def put(
        self,
        store: Store,
        kind: str,
        purpose: str,
        payload: Payload,
        *,
        user_id: UUID | None = None,
        lifetime: timedelta | None = None,
        receiver: str = "",
    ) -> UUID:
        """Ask for something in the transaction of `store`; its id.

        `payload` is JSON, and is kept sealed. After `lifetime`, by default that of mail, it is not
        tried any more. With `user_id`, it goes when that account goes. Entries of one kind with
        the same `receiver`, of 64 characters at most, have one share of the deliveries.
        """
        at, key = self._clock.now(), new_id()
        sealed = self._keys.outbox_sealer.seal(
            json.dumps(payload).encode(), context=outbox_context(key)
        )
        lasts = self._lifetime if lifetime is None else min(lifetime, self._lifetime)
        await store.outbox.add(
            Entry(
                id=key,
                kind=kind,
                purpose=purpose,
                user_id=user_id,
                payload=sealed,
                created_at=at,
                due_at=at,
                expires_at=at + lasts,
                receiver=receiver,
            )
        )
        return key

    def wake(self) -> None:
        """Look for entries now: this process has written some."""
        for deliveries in self._deliveries.values():
            deliveries.woken.set()

    def start(self) -> None:
        """Begin, in the background: one task for each kind, so that none waits for another."""
        self._open()
        self._clock.start()
        self._tasks.clear()  # those of an event loop that ended without `stop`
        for kind in self._handlers:
            if ready := self._ready.get(kind):
                ready()
            deliveries = self._deliveries[kind]
            deliveries.reset()
            task = BackgroundTask(f"outbox-{kind}", partial(self._run, deliveries))
            self._tasks.append(task)
            task.start()
            # What is being claimed when the task is stopped has a moment to be begun.
            deliveries.turn = task.whole

    async def stop(self) -> None:
        """End that, within two seconds. What is cut short comes back to another process."""
        tasks, self._tasks = self._tasks, []
        ended = await asyncio.gather(*(task.stop() for task in tasks), return_exceptions=True)
        await asyncio.gather(*(found.stop() for found in self._deliveries.values()))
        for deliveries in self._deliveries.values():
            deliveries.reset()
        self._clock.stop()
        self._open()
        _raise_first(ended)

    def _open(self) -> None:
        # Many deliveries that end together write one after the other: else they would take all
        # connections of the pool, and the turns of the one writer on SQLite, before any request.
        # Those that failed have a lock of their own, so that a receiver that takes what it gets
        # does not wait for them.
        self._writing, self._writing_failure = asyncio.Lock(), asyncio.Lock()

    async def work(self, kind: str) -> int:
        """Do what is due of `kind`, of each receiver as much as its share; how many entries.

        Raises StorageUnavailable. What was delivered then and could not be removed comes back.
        """
        begun = await self._deliveries[kind].begin(self._lease, pauses=False)
        _raise_first(await asyncio.gather(*begun, return_exceptions=True))
        return len(begun)

    async def settle(self) -> int:
        """Do everything that is due now, also what follows from it; how many entries that were.

        What the background is at is waited for.
        """
        total = 0
        while True:
            working = [self._deliveries[kind] for kind in self._handlers]
            before = sum(deliveries.begun for deliveries in working)
            total += sum([await self.work(kind) for kind in self._handlers])
            for deliveries in working:
                await deliveries.ended()
            # What the background has done meanwhile may have asked for more.
            is_over = not await self._any_due() and all(found.is_idle for found in working)
            if is_over and sum(deliveries.begun for deliveries in working) == before:
                return total

    async def _any_due(self) -> bool:
        at = self._clock.latest()
        async with self._database.read() as store:
            return any([await store.outbox.due_receivers(k, now=at) for k in self._handlers])

    async def retry(self, kind: str) -> int:
        """Try now what was given up of `kind`, or waits for long; how many entries."""
        at = self._clock.now()
        async with self._database.transaction() as store:
            hurried = await store.outbox.hurry(kind, at=at, unless_before=at + self._lease)
            return hurried + await store.outbox.revive(kind, at=at, expires_at=at + self._lifetime)

    async def prune(self) -> int:
        """Remove entries that were given up a week ago or longer, in small batches; how many."""
        return await prune(
            self._database,
            "outbox",
            lambda store, limit: store.outbox.prune(before=self._clock.now() - _KEPT, limit=limit),
        )

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._patience + _LEASE_MARGIN)

    async def recall(self, kind: str) -> None:
        """Bring forward what was put off by a clock that was ahead: for longer than any pause.

        Clocks of other hosts may be ahead by half a minute; what another process delivers now is
        due after one more lease.
        """
        at = self._clock.now()
        latest = [at + _SKEW]
        latest += [
            at + _SKEW + max(self._lease, _pause_after(n)) for n in range(1, _STEPS_OF_PAUSES)
        ]
        async with self._database.read() as store:
            if not await store.outbox.has_later(kind, latest=latest):
                return
        async with self._database.transaction() as store:
            found = await store.outbox.recall(
                kind, latest=latest, now=at, until=at + self._lease, expires_at=at + self._lifetime
            )
        if found:
            _log.warning("put off by a clock that was ahead, now due: %d", found)

    async def _run(self, deliveries: Deliveries) -> None:
        recalled_at = -math.inf
        while True:
            # Not `wait_for`, which loses a cancellation that comes together with what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await deliveries.woken.wait()
            deliveries.woken.clear()
            try:
                if time.monotonic() - recalled_at >= _RECALL:
                    await self.recall(deliveries.kind)
                    recalled_at = time.monotonic()
                await deliveries.begin(self._lease)
                self._is_away = False
            except Exception as error:
                self._trouble(error)  # this task is begun once: it goes on

    def _trouble(self, error: BaseException) -> None:
        if not isinstance(error, StorageUnavailable):
            _log.error("the outbox was not worked through", exc_info=error)
        elif not self._is_away:  # once, not every two seconds
            self._is_away = True
            _log.warning("the outbox cannot be read or written")

    async def _do(self, entry: Entry, receiver: Receiver) -> None:
        try:
            if entry.expires_at <= self._clock.now():
                # Usually no process was there to deliver it; nothing else went wrong.
                raise DeliveryFailed(entry.error or "its time was over", permanent=True)
            async with asyncio.timeout(self._patience):
                await self._handlers[entry.kind](entry, self.read(entry))
        except DeliveryFailed as failure:
            if not failure.permanent and not isinstance(failure, EntryFailed):
                receiver.failed(time.monotonic())
            await self._failed(entry, str(failure), permanent=failure.permanent)
        except SealBroken:
            await self._failed(entry, "sealed under another secret", permanent=False)
        except Exception as error:
            if isinstance(error, TimeoutError):
                receiver.failed(time.monotonic())
            # Nothing of its text: it may repeat an address, or a password of the mail server.
            await self._failed(entry, type(error).__name__, permanent=False)
        else:
            receiver.arrived()
            async with self._writing, self._database.transaction() as store:
                await store.outbox.done(entry.id)

    def read(self, entry: Entry) -> Payload:
        """What was put. Raises SealBroken if it was sealed under another secret."""
        plain = self._keys.outbox_sealer.open(entry.payload, context=outbox_context(entry.id))
        payload: Payload = json.loads(plain)
        return payload

    async def _failed(self, entry: Entry, reason: str, *, permanent: bool) -> None:
        at = self._clock.now()
        again = at + _pause_after(entry.attempts)
        gives_up = permanent or again >= entry.expires_at
        about = {"kind": entry.kind, "purpose": entry.purpose, "entry_id": str(entry.id)}
        async with self._writing_failure, self._database.transaction() as store:
            if gives_up:
                await store.outbox.give_up(entry, at=at, error=reason)
            else:
                await store.outbox.put_off(entry, until=again, error=reason)
        if gives_up:
            _log.error("given up: %s", reason, extra=about)
        else:
            _log.warning("not delivered this time: %s", reason, extra=about)


def _pause_after(attempts: int) -> timedelta:
    return timedelta(seconds=min(2.0 ** min(attempts - 1, 20), _LONGEST_PAUSE))


def _raise_first(results: Sequence[BaseException | None]) -> None:
    for result in results:
        if result is not None:
            raise result
