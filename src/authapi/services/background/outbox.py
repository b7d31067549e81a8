"""What is done after a commit, because of it: asked for inside of the transaction, never lost.

An entry is written together with the change that it tells of. When that is committed, one process
claims the entry, which puts it off for others, does what it asks for, and removes it. Whoever dies
in between loses nothing: the entry comes back, and is done at least once, under the same id.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.errors import DeliveryFailed, SealBroken, StorageUnavailable
from authapi.services.background.pruning import prune
from authapi.services.background.task import BackgroundTask
from authapi.services.keys import Keys, outbox_context
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.tables.outbox import Entry

_log = logging.getLogger(__name__)

_POLL = 2.0
"""Seconds after which a process looks for what others have written, or what is due again."""
_BATCH = 5
"""Entries of one kind that a process works on at one time."""
_LONGEST_PAUSE = 900.0
_KEPT = timedelta(days=7)
"""How long entries that were given up stay, for somebody to look at."""

Payload = Mapping[str, Any]
Handler = Callable[[Entry, Payload], Awaitable[None]]
"""Does what an entry asks for. It may remove the entry in a transaction of its own; else it is
removed afterwards. Raises DeliveryFailed if it did not get through."""


class Outbox:
    """Entries and their handlers, one for each kind."""

    def __init__(self, database: Database, keys: Keys, settings: Settings) -> None:
        self._database = database
        self._keys = keys
        self._lifetime = settings.mail_lifetime
        self._patience = 4 * settings.mail_timeout
        self._handlers: dict[str, Handler] = {}
        self._tasks: list[BackgroundTask] = []
        self._woken: dict[str, asyncio.Event] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        database.on_queued = self.wake

    def on(self, kind: str, handler: Handler) -> None:
        """Let `handler` do the entries of `kind`."""
        self._handlers[kind] = handler
        self._turns[kind] = asyncio.Lock()

    async def put(
        self,
        store: Store,
        kind: str,
        purpose: str,
        payload: Payload,
        *,
        user_id: UUID | None = None,
        lifetime: timedelta | None = None,
    ) -> UUID:
        """Ask for something in the transaction of `store`; its id.

        `payload` is JSON, and is kept sealed. After `lifetime`, by default that of mail, it is not
        tried any more. With `user_id`, it goes when that account goes.
        """
        at, key = now(), new_id()
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
            )
        )
        return key

    def wake(self) -> None:
        """Look for entries now: this process has written some."""
        for event in self._woken.values():
            event.set()

    def start(self) -> None:
        """Begin, in the background: one task for each kind, so that none waits for another."""
        for kind in self._handlers:
            woken = self._woken[kind] = asyncio.Event()
            task = BackgroundTask(f"outbox-{kind}", partial(self._run, kind, woken))
            self._tasks.append(task)
            task.start()
            # What is being delivered when the task is stopped has a moment to arrive.
            self._turns[kind] = task.whole

    async def stop(self) -> None:
        """End that. What is at hand then comes back to whoever looks next."""
        self._woken.clear()
        while self._tasks:
            await self._tasks.pop().stop()
        self._turns = {kind: asyncio.Lock() for kind in self._handlers}

    async def work(self, kind: str) -> int:
        """Do what is due of `kind`, once each; how many entries that were.

        Raises StorageUnavailable. What was delivered then and could not be removed comes back.
        """
        async with self._turns[kind]:
            async with self._database.read() as store:
                if not await store.outbox.is_due(kind, now=now()):
                    return 0
            async with self._database.transaction() as store:
                at = now()
                claimed = await store.outbox.claim(
                    kind, now=at, until=at + self._lease, limit=_BATCH
                )
            # All of them to their end, whatever becomes of one.
            tasks = [
                asyncio.create_task(self._do(entry), name=f"authapi-outbox-{kind}")
                for entry in claimed
            ]
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        return len(claimed)

    async def settle(self) -> int:
        """Do everything that is due now, also what follows from it; how many entries that were.

        What the background is at is waited for.
        """
        total = 0
        while True:
            done = sum([await self.work(kind) for kind in self._handlers])
            total += done
            # What the background has done meanwhile may have asked for more.
            if not done and not await self._any_due():
                return total

    async def _any_due(self) -> bool:
        async with self._database.read() as store:
            return any([await store.outbox.is_due(kind, now=now()) for kind in self._handlers])

    async def retry(self, kind: str) -> int:
        """Try now what was given up of `kind`, or waits for long; how many entries."""
        at = now()
        async with self._database.transaction() as store:
            hurried = await store.outbox.hurry(kind, at=at, unless_before=at + self._lease)
            return hurried + await store.outbox.revive(kind, at=at, expires_at=at + self._lifetime)

    async def prune(self) -> int:
        """Remove entries that were given up a week ago or longer, in small batches; how many."""
        return await prune(
            self._database,
            "outbox",
            lambda store, limit: store.outbox.prune(before=now() - _KEPT, limit=limit),
        )

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._patience + 5)

    async def _run(self, kind: str, woken: asyncio.Event) -> None:
        is_away = False
        while True:
            # Not `wait_for`, which loses a cancellation that comes together with what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await woken.wait()
            woken.clear()
            try:
                while await self.work(kind):
                    pass
                is_away = False
            except StorageUnavailable:
                if not is_away:  # once, not every two seconds
                    _log.warning("the outbox cannot be read or written")
                is_away = True
            except Exception:
                # Nobody begins this task again.
                _log.exception("the outbox was not worked through")

    async def _do(self, entry: Entry) -> None:
        try:
            if entry.expires_at <= now():
                # As often as not nobody was there to take it; nothing else went wrong.
                raise DeliveryFailed(entry.error or "its time was over", permanent=True)
            async with asyncio.timeout(self._patience):
                await self._handlers[entry.kind](entry, self.read(entry))
        except DeliveryFailed as failure:
            await self._failed(entry, str(failure), permanent=failure.permanent)
        except SealBroken:
            reason = "sealed under another secret"
            await self._failed(entry, reason, permanent=False)
        except Exception as error:
            # Nothing of its text: it may repeat an address, or a password of the mail server.
            await self._failed(entry, type(error).__name__, permanent=False)
        else:
            async with self._database.transaction() as store:
                await store.outbox.done(entry.id)

    def read(self, entry: Entry) -> Payload:
        """What was put. Raises SealBroken if it was sealed under another secret."""
        plain = self._keys.outbox_sealer.open(entry.payload, context=outbox_context(entry.id))
        payload: Payload = json.loads(plain)
        return payload

    async def _failed(self, entry: Entry, reason: str, *, permanent: bool) -> None:
        pause = min(2.0 ** min(entry.attempts - 1, 20), _LONGEST_PAUSE)
        again = now() + timedelta(seconds=pause)
        gives_up = permanent or again >= entry.expires_at
        about = {"kind": entry.kind, "purpose": entry.purpose, "entry_id": str(entry.id)}
        async with self._database.transaction() as store:
            if gives_up:
                await store.outbox.give_up(entry, at=now(), error=reason)
            else:
                await store.outbox.put_off(entry, until=again, error=reason)
        if gives_up:
            _log.error("given up: %s", reason, extra=about)
        else:
            _log.warning("not delivered this time: %s", reason, extra=about)
