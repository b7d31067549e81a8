"""Delivers the outbox entries of one kind: claims them per receiver, and runs each in a task.

Each receiver has slots and a circuit breaker of its own, so that receivers do not wait for each
other. A slot is filled again when its delivery ends. The entries in memory are thus bounded by the
slots of the receivers.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from authapi.backoff import delay_after
from authapi.domain.outbox import OutboxEntry
from authapi.errors import DeliveryFailed
from authapi.services.jobs.slewed_clock import SlewedClock
from authapi.storage import Database

SLOTS = 5
"""Concurrent deliveries to one receiver, in one process."""
_FAILURE_THRESHOLD = 5
"""Consecutive failures after which the circuit opens: the receiver is only probed."""
_MAX_PROBE_DELAY = 30.0
"""Longest delay between two probes, in seconds."""
_GRACE = 1.0
"""Seconds that `stop` waits for deliveries before it cancels them."""

Deliver = Callable[[OutboxEntry, "Receiver"], Coroutine[Any, Any, None]]
"""Delivers an entry, stores the result, and records success or failure of the receiver."""
Delivery = asyncio.Task[None]


class EntryFailed(DeliveryFailed):
    """A delivery failed because of the entry itself; the receiver accepts other entries."""


class Receiver:
    """The state of one receiver in this process. Times are those of `time.monotonic`.

    A receiver has `SLOTS` slots for concurrent deliveries. After several consecutive failures the
    circuit opens: one delivery at a time probes the receiver, with delays of about 1, 2, 4 seconds
    and so on between probes. The first successful delivery closes the circuit.
    """

    def __init__(self) -> None:
        self.deliveries = 0
        """Deliveries in progress."""
        self.has_more = False
        """Whether the last claim filled all free slots, so that more entries may be due."""
        self._failures = 0
        self._next_probe_at = 0.0

    def free_slots(self, at: float, *, ignore_delays: bool = False) -> int:
        """Returns how many deliveries may begin at the time `at`.

        With `ignore_delays`, the next probe may begin before its delay has passed.
        """
        if self._failures < _FAILURE_THRESHOLD:
            return SLOTS - self.deliveries
        if at < self._next_probe_at and not ignore_delays:
            return 0
        return max(0, 1 - self.deliveries)

    def record_success(self) -> None:
        """Records a successful delivery, which closes the circuit."""
        self._failures = 0

    def record_failure(self, at: float) -> None:
        """Records a failed delivery at the time `at`."""
        self._failures += 1
        since_open = self._failures - _FAILURE_THRESHOLD + 1
        if since_open > 0:
            self._next_probe_at = at + delay_after(since_open, limit=_MAX_PROBE_DELAY)


class Deliveries:
    """Claims the entries of `kind` and passes each to `deliver`.

    `on_error` is called with the error of a delivery whose result could not be stored.
    """

    def __init__(
        self,
        kind: str,
        database: Database,
        clock: SlewedClock,
        deliver: Deliver,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.kind = kind
        self._database = database
        self._clock = clock
        self._deliver = deliver
        self._on_error = on_error
        self._receivers: defaultdict[str, Receiver] = defaultdict(Receiver)
        self._running: set[Delivery] = set()
        self.started = 0
        """Number of deliveries that this process has started."""
        self.claiming = asyncio.Lock()
        """Held from the query for due entries until the claimed ones are started."""
        self.wakeup = asyncio.Event()
        """Set when entries may be due."""
        self.skew_checked_at = -math.inf
        """When due times were last corrected (`Outbox.bring_forward`), by `time.monotonic`."""

    @property
    def is_idle(self) -> bool:
        """Whether no delivery is running or about to start."""
        return not self._running and not self.claiming.locked()

    async def start_due(
        self, lease: timedelta, *, ignore_delays: bool = False
    ) -> Sequence[Delivery]:
        """Claims the due entries for which there are free slots, for `lease`, and starts them.

        With `ignore_delays`, probes start at once, and entries count as due that are due only by
        the system clock after it was set ahead. Returns the tasks. Raises StorageUnavailable.
        """
        async with self.claiming:
            at = self._clock.latest() if ignore_delays else self._clock.now()
            slots = await self._free_slots(at, ignore_delays=ignore_delays)
            if not slots:
                return ()
            claimed: dict[str, Sequence[OutboxEntry]] = {}
            async with self._database.transaction() as store:
                for name, free in slots.items():
                    claimed[name] = await store.outbox.claim(
                        self.kind, name, now=at, until=at + lease, limit=free
                    )
            for name, entries in claimed.items():
                self._receivers[name].has_more = len(entries) == slots[name]
            return [
                self._start(entry, self._receivers[name])
                for name, entries in claimed.items()
                for entry in entries
            ]

    async def wait(self) -> None:
        """Waits until the deliveries that are running now have ended."""
        if self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Waits one second for running deliveries, then cancels them.

        A cancelled entry is due again after its lease, for any process.
        """
        if self._running:
            await asyncio.wait(self._running, timeout=_GRACE)
        cancelled = list(self._running)
        for delivery in cancelled:
            delivery.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)

    def reset(self) -> None:
        """Returns to the initial state, for an event loop that may be another one."""
        self.claiming, self.wakeup = asyncio.Lock(), asyncio.Event()
        self._receivers.clear()
        self._running = set()
        self.skew_checked_at = -math.inf

    async def _free_slots(self, due_at: datetime, *, ignore_delays: bool) -> Mapping[str, int]:
        async with self._database.read() as store:
            due = await store.outbox.due_receivers(self.kind, now=due_at)
        at = time.monotonic()
        slots = {
            name: self._receivers[name].free_slots(at, ignore_delays=ignore_delays) for name in due
        }
        return {name: free for name, free in slots.items() if free > 0}

    def _start(self, entry: OutboxEntry, receiver: Receiver) -> Delivery:
        name = f"authapi-outbox-{self.kind}"
        delivery: Delivery = asyncio.create_task(self._deliver(entry, receiver), name=name)
        self._running.add(delivery)
        self.started += 1
        receiver.deliveries += 1
        delivery.add_done_callback(partial(self._ended, receiver))
        return delivery

    def _ended(self, receiver: Receiver, delivery: Delivery) -> None:
        self._running.discard(delivery)  # `reset` may have removed it already
        receiver.deliveries -= 1
        if receiver.has_more:
            self.wakeup.set()
        if not delivery.cancelled() and (error := delivery.exception()) is not None:
            self._on_error(error)
