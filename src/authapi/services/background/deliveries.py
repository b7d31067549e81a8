"""The deliveries of one kind of entries: claimed for each receiver by itself, each a task.

No receiver waits for another: each has its share (`receivers`), which is refilled as deliveries
end. So the entries that a process has in memory are at most one share for each receiver.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from authapi.services.background.receivers import Receiver
from authapi.services.background.steady import SteadyClock
from authapi.storage import Database
from authapi.storage.tables.outbox import Entry

_PATIENCE = 1.0
"""Seconds that `stop` waits for deliveries before it cancels them."""

Deliver = Callable[[Entry, Receiver], Coroutine[Any, Any, None]]
"""Delivers an entry, writes down what came of it, and tells the receiver whether it has failed."""
Delivery = asyncio.Task[None]


class Deliveries:
    """Claims the entries of `kind`, and has `deliver` do them."""

    def __init__(
        self,
        kind: str,
        database: Database,
        clock: SteadyClock,
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
        self.begun = 0
        """How many deliveries this process has begun."""
        self.turn = asyncio.Lock()
        """Held from a look into the table until what it has claimed is begun."""
        self.woken = asyncio.Event()
        """Set when there may be something to claim."""

    @property
    def is_idle(self) -> bool:
        """Whether no delivery goes on or is about to begin."""
        return not self._running and not self.turn.locked()

    async def begin(self, lease: timedelta, *, pauses: bool = True) -> Sequence[Delivery]:
        """Claim for `lease` what is due and has room, and begin it.

        Without `pauses`, at once, and also what is only due by the time of day after the clock was
        set ahead.

        Raises StorageUnavailable.
        """
        async with self.turn:
            at = self._clock.now() if pauses else self._clock.latest()
            rooms = await self._rooms(at, pauses=pauses)
            if not rooms:
                return ()
            claimed: dict[str, Sequence[Entry]] = {}
            async with self._database.transaction() as store:
                for name, room in rooms.items():
                    claimed[name] = await store.outbox.claim(
                        self.kind, name, now=at, until=at + lease, limit=room
                    )
            for name, entries in claimed.items():
                self._receivers[name].has_more = len(entries) == rooms[name]
            return [
                self._started(entry, self._receivers[name])
                for name, entries in claimed.items()
                for entry in entries
            ]

    async def ended(self) -> None:
        """Wait until every delivery that goes on has ended."""
        if self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Give what goes on a second to end, then cancel it: it comes back to another process."""
        if self._running:
            await asyncio.wait(self._running, timeout=_PATIENCE)
        cut = list(self._running)
        for delivery in cut:
            delivery.cancel()
        await asyncio.gather(*cut, return_exceptions=True)

    def reset(self) -> None:
        """Begin anew, in the event loop that uses this next, which may be another one."""
        self.turn, self.woken = asyncio.Lock(), asyncio.Event()
        self._receivers.clear()
        self._running = set()

    async def _rooms(self, due_at: datetime, *, pauses: bool) -> Mapping[str, int]:
        async with self._database.read() as store:
            due = await store.outbox.due_receivers(self.kind, now=due_at)
        at = time.monotonic()
        rooms = {name: self._receivers[name].room(at, pauses=pauses) for name in due}
        return {name: room for name, room in rooms.items() if room > 0}

    def _started(self, entry: Entry, receiver: Receiver) -> Delivery:
        name = f"authapi-outbox-{self.kind}"
        delivery: Delivery = asyncio.create_task(self._deliver(entry, receiver), name=name)
        self._running.add(delivery)
        self.begun += 1
        receiver.deliveries += 1
        delivery.add_done_callback(partial(self._ended, receiver))
        return delivery

    def _ended(self, receiver: Receiver, delivery: Delivery) -> None:
        self._running.discard(delivery)  # not there any more after `reset`
        receiver.deliveries -= 1
        if receiver.has_more:
            self.woken.set()
        if not delivery.cancelled() and (error := delivery.exception()) is not None:
            self._on_error(error)
