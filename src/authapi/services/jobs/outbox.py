"""Transactional outbox: jobs that are queued in the transaction that causes them.

An entry is inserted together with the change it reports, so it exists exactly if that change is
committed. After the commit, one process claims the entry (`deliveries`), which moves its due time
to the end of a lease; calls the handler of its kind; and deletes the entry. If that process dies in
between, the entry is due again after its lease. Each entry is therefore delivered at least once,
always under the same id.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from authapi.backoff import delay_after, longest_delay
from authapi.crypto.encryption import Cipher
from authapi.crypto.ids import new_id
from authapi.domain.monitoring.signals import Signals
from authapi.domain.outbox import OutboxEntry
from authapi.errors import DecryptionFailed, DeliveryFailed, StorageUnavailable
from authapi.services.hooks import hook_of
from authapi.services.jobs.deliveries import Deliveries, EntryFailed, Receiver
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.services.jobs.pruning import prune_in_batches
from authapi.services.jobs.slewed_clock import SlewedClock
from authapi.settings import Settings
from authapi.storage import Database, Store

_log = logging.getLogger(__name__)

_POLL_INTERVAL = 2.0
"""Seconds between two queries for entries that other processes queued, or that are due again."""
_TIMEOUT_STEPS = 4
"""A delivery may take this many steps of `mail_timeout` seconds."""
_LEASE_MARGIN = 5.0
"""Seconds between the longest delivery and the end of its lease."""
_MAX_RETRY_DELAY = 900.0
"""Longest delay between two attempts, in seconds."""
_ATTEMPTS_TO_MAX_DELAY = 12
"""From this number of attempts on, the delay is the longest."""
_MAX_CLOCK_SKEW = timedelta(seconds=30)
"""How far the clocks of several hosts may differ."""
_SKEW_CHECK_INTERVAL = 60.0
"""Seconds between two queries for entries that a wrong clock has postponed."""
_RECORD_INTERVAL = 60.0
"""Seconds between two records of the last delivery to one receiver, by one process."""
_FAILED_RETENTION = timedelta(days=7)
"""How long failed entries are kept for an operator to inspect."""

Payload = Mapping[str, Any]
Handler = Callable[[OutboxEntry, Payload], Awaitable[None]]
"""Delivers an entry. A handler may delete the entry in a transaction of its own; otherwise the
entry is deleted afterwards. Raises DeliveryFailed if the delivery failed: its subclass EntryFailed
if the entry is the reason, and not the receiver."""

Prepare = Callable[[], None]


class Outbox:
    """Queues entries, and runs the handler of their kind.

    `cipher` returns the cipher of payloads. It raises ConfigurationError if the secret cannot be
    read.
    """

    def __init__(
        self,
        database: Database,
        cipher: Callable[[], Cipher],
        settings: Settings,
        signals: Signals | None = None,
    ) -> None:
        self._signals = signals
        self._database = database
        self._cipher = cipher
        self._lifetime = settings.mail_lifetime
        self._delivery_timeout = _TIMEOUT_STEPS * settings.mail_timeout
        self._handlers: dict[str, Handler] = {}
        self._prepare: dict[str, Prepare] = {}
        self._deliveries: dict[str, Deliveries] = {}
        self._tasks: list[PeriodicTask] = []
        self._recorded: dict[tuple[str, str], float] = {}
        """When the last delivery of a kind to a receiver was recorded, by `time.monotonic`."""
        self._is_storage_down = False
        self._clock = SlewedClock()
        self._create_locks()

    def register(self, kind: str, handler: Handler, *, prepare: Prepare | None = None) -> None:
        """Registers the handler of entries of `kind`. `start` calls `prepare`, which may block."""
        self._handlers[kind] = handler
        if prepare is not None:
            self._prepare[kind] = prepare
        self._deliveries[kind] = Deliveries(
            kind, self._database, self._clock, self._deliver, self._log_iteration_error
        )

    async def enqueue(
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
        """Inserts an entry in the transaction of `store`. Returns its id.

        `payload` is JSON, and is stored encrypted. The entry expires after `lifetime`, which
        `mail_lifetime` limits and is the default of. An entry with a `user_id` is deleted together
        with that account. Entries of one kind with the same `receiver`, up to 64 characters, share
        the slots of that receiver. Raises ConfigurationError if the secret cannot be read.
        """
        at = self._clock.now()
        lifetime = self._lifetime if lifetime is None else min(lifetime, self._lifetime)
        entry = OutboxEntry(
            id=new_id(),
            kind=kind,
            purpose=purpose,
            user_id=user_id,
            payload=b"",
            created_at=at,
            due_at=at,
            expires_at=at + lifetime,
            receiver=receiver,
        )
        plaintext = json.dumps(payload).encode()
        encrypted = self._cipher().encrypt(plaintext, context=entry.context)
        await store.outbox.add(replace(entry, payload=encrypted))
        return entry.id

    def wake(self) -> None:
        """Makes the workers query for entries now: this process has queued some."""
        for deliveries in self._deliveries.values():
            deliveries.wakeup.set()

    def start(self) -> None:
        """Starts one worker for each kind, so that kinds do not wait for each other."""
        self._create_locks()
        self._clock.start()
        self._tasks.clear()  # the tasks of an event loop that ended without `stop`
        for kind in self._handlers:
            if prepare := self._prepare.get(kind):
                prepare()
            deliveries = self._deliveries[kind]
            deliveries.reset()
            task = PeriodicTask(
                f"outbox-{kind}",
                partial(self._deliver_due, deliveries),
                interval=_POLL_INTERVAL,
                on_error=self._log_iteration_error,
                wakeup=deliveries.wakeup,
            )
            self._tasks.append(task)
            task.start()
            # A stop between the claim and the start of the deliveries waits for that start.
            deliveries.claiming = task.uninterrupted

    async def stop(self) -> None:
        """Stops the workers within two seconds. Another process delivers what was cancelled.

        Raises the first error that has ended a worker.
        """
        tasks, self._tasks = self._tasks, []
        results = await asyncio.gather(*(task.stop() for task in tasks), return_exceptions=True)
        await asyncio.gather(*(deliveries.stop() for deliveries in self._deliveries.values()))
        for deliveries in self._deliveries.values():
            deliveries.reset()
        self._clock.stop()
        self._create_locks()
        _raise_first(results)

    def _create_locks(self) -> None:
        # Deliveries that end together store their results one after the other. Otherwise they would
        # take all connections of the pool, and on SQLite the turns of the one writer, before any
        # request. Failures have a lock of their own, so that a receiver that accepts its entries
        # does not wait for one that fails.
        self._success_lock, self._failure_lock = asyncio.Lock(), asyncio.Lock()

    async def run_due(self, kind: str) -> int:
        """Delivers the due entries of `kind` for which there are free slots. Returns their number.

        Raises StorageUnavailable. An entry that was delivered but could not be deleted is delivered
        again.
        """
        started = await self._deliveries[kind].start_due(self._lease, ignore_delays=True)
        _raise_first(await asyncio.gather(*started, return_exceptions=True))
        return len(started)

    async def drain(self) -> int:
        """Delivers all due entries, and those that they cause. Returns how many it delivered.

        Waits for the deliveries of the workers too. Raises StorageUnavailable.
        """
        total = 0
        while True:
            workers = [self._deliveries[kind] for kind in self._handlers]
            before = sum(deliveries.started for deliveries in workers)
            total += sum([await self.run_due(kind) for kind in self._handlers])
            for deliveries in workers:
                await deliveries.wait()
            # The deliveries of the workers may have queued more entries.
            is_idle = not await self._any_due() and all(each.is_idle for each in workers)
            if is_idle and sum(deliveries.started for deliveries in workers) == before:
                return total

    async def _any_due(self) -> bool:
        at = self._clock.latest()
        async with self._database.read() as store:
            return any([await store.outbox.due_receivers(k, now=at) for k in self._handlers])

    async def retry_in(
        self,
        store: Store,
        kind: str,
        *,
        receiver: str | None = None,
        entry_id: UUID | None = None,
    ) -> int:
        """Makes failed entries of `kind`, and those that wait for a retry, due now.

        With `receiver` or `entry_id`, only the entries of that receiver, or only that entry.
        Entries in progress stay as they are. Returns the number of entries.
        """
        at = self._clock.now()
        waiting = await store.outbox.retry_now(
            kind, at=at, unless_before=at + self._lease, receiver=receiver, entry_id=entry_id
        )
        return waiting + await store.outbox.requeue(
            kind, at=at, expires_at=at + self._lifetime, receiver=receiver, entry_id=entry_id
        )

    async def list_undelivered(
        self,
        kind: str,
        *,
        has_failed: bool | None = None,
        after: UUID | None = None,
        limit: int,
    ) -> Sequence[OutboxEntry]:
        """Returns up to `limit` entries of `kind`, the oldest first, after the entry `after`.

        With `has_failed`, only those whose attempts have ended, or only the others. Raises
        StorageUnavailable.
        """
        async with self._database.read() as store:
            return await store.outbox.page(kind, has_failed=has_failed, after=after, limit=limit)

    async def prune(self) -> int:
        """Deletes entries that failed seven days ago or earlier, in batches. Returns their number.

        Raises StorageUnavailable.
        """
        return await prune_in_batches(
            self._database,
            "outbox",
            lambda store, limit: store.outbox.prune(
                before=self._clock.now() - _FAILED_RETENTION, limit=limit
            ),
        )

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._delivery_timeout + _LEASE_MARGIN)

    async def bring_forward(self, kind: str) -> None:
        """Corrects due times that a clock ahead of time has set later than any retry delay.

        The clocks of other hosts may be ahead by 30 seconds. An entry that another process may be
        delivering now becomes due after one more lease. Raises StorageUnavailable.
        """
        at = self._clock.now()
        latest = [at + _MAX_CLOCK_SKEW]
        latest += [
            at + _MAX_CLOCK_SKEW + max(self._lease, _longest_delay(attempts))
            for attempts in range(1, _ATTEMPTS_TO_MAX_DELAY)
        ]
        async with self._database.read() as store:
            if not await store.outbox.has_due_after(kind, latest=latest):
                return
        async with self._database.transaction() as store:
            count = await store.outbox.bring_forward(
                kind, latest=latest, now=at, until=at + self._lease, expires_at=at + self._lifetime
            )
        if count:
            _log.warning("corrected due times set by a clock that was ahead: %d", count)

    async def _deliver_due(self, deliveries: Deliveries) -> None:
        if time.monotonic() - deliveries.skew_checked_at >= _SKEW_CHECK_INTERVAL:
            await self.bring_forward(deliveries.kind)
            deliveries.skew_checked_at = time.monotonic()
        await deliveries.start_due(self._lease)
        self._is_storage_down = False

    def _log_iteration_error(self, error: BaseException) -> None:
        if not isinstance(error, StorageUnavailable):
            _log.error("outbox worker iteration failed", exc_info=error)
        elif not self._is_storage_down:  # log once, not at every poll
            self._is_storage_down = True
            _log.warning("outbox not available: the database does not answer")

    async def _deliver(self, entry: OutboxEntry, receiver: Receiver) -> None:
        try:
            if entry.expires_at <= self._clock.now():
                # Without an earlier error, usually no process was running to deliver it.
                raise DeliveryFailed(entry.error or "expired", permanent=True)
            async with asyncio.timeout(self._delivery_timeout):
                await self._handlers[entry.kind](entry, self.decrypt_payload(entry))
        except DeliveryFailed as failure:
            if not failure.permanent and not isinstance(failure, EntryFailed):
                receiver.record_failure(time.monotonic())
            await self._store_failure(entry, str(failure), permanent=failure.permanent)
        except DecryptionFailed:
            await self._store_failure(entry, "encrypted with another secret", permanent=False)
        except Exception as error:
            if isinstance(error, TimeoutError):
                receiver.record_failure(time.monotonic())
            if (hook := hook_of(error)) is not None:
                # No response reports this error: its author needs the traceback.
                _log.error("the hook %s failed in a job", hook, exc_info=error)
            await self._store_failure(entry, _reason(error), permanent=False)
        else:
            receiver.record_success()
            async with self._success_lock, self._database.transaction() as store:
                await store.outbox.complete(entry.id)
            if self._signals is not None:
                self._signals.attempted(entry.kind, "delivered")
            await self._record_delivery(entry)

    async def _record_delivery(self, entry: OutboxEntry) -> None:
        """Records when this receiver last accepted an entry, to the minute."""
        key, at = (entry.kind, entry.receiver), time.monotonic()
        if at - self._recorded.get(key, -math.inf) < _RECORD_INTERVAL:
            return
        self._recorded[key] = at
        # In a transaction of its own: if this fails, the entry must not be delivered once more.
        async with self._success_lock, self._database.transaction() as store:
            await store.outbox.record_delivery(*key, at=self._clock.now())

    def decrypt_payload(self, entry: OutboxEntry) -> Payload:
        """Returns the payload of an entry.

        Raises DecryptionFailed if another secret encrypted it, ConfigurationError if the secret
        cannot be read.
        """
        plaintext = self._cipher().decrypt(entry.payload, context=entry.context)
        payload: Payload = json.loads(plaintext)
        return payload

    async def _store_failure(self, entry: OutboxEntry, reason: str, *, permanent: bool) -> None:
        at = self._clock.now()
        retry_at = at + _retry_delay(entry.attempts)
        is_final = permanent or retry_at >= entry.expires_at
        extra = {"kind": entry.kind, "purpose": entry.purpose, "entry_id": str(entry.id)}
        async with self._failure_lock, self._database.transaction() as store:
            if is_final:
                await store.outbox.mark_failed(entry, at=at, error=reason)
            else:
                await store.outbox.reschedule(entry, until=retry_at, error=reason)
        if self._signals is not None:
            self._signals.attempted(entry.kind, "given_up" if is_final else "failed")
        if is_final:
            _log.error("delivery failed permanently: %s", reason, extra=extra)
        else:
            _log.warning("delivery failed, will retry: %s", reason, extra=extra)


def _reason(error: Exception) -> str:
    # Only the type: the message may contain an address, or a password of the mail server.
    hook = hook_of(error)
    return type(error).__name__ if hook is None else f"{type(error).__name__} in the hook {hook}"


def _retry_delay(attempts: int) -> timedelta:
    return timedelta(seconds=delay_after(attempts, limit=_MAX_RETRY_DELAY))


def _longest_delay(attempts: int) -> timedelta:
    return timedelta(seconds=longest_delay(attempts, limit=_MAX_RETRY_DELAY))


def _raise_first(results: Sequence[BaseException | None]) -> None:
    for result in results:
        if result is not None:
            raise result
