"""Counters in memory for the limits on guessing.

The memory storage of `limits` walks through all its keys after each hit, on the event loop: after
guesses at 100,000 accounts each login waited for 0.2 seconds. Here dead counters are swept out only
when the table has doubled, so that a hit costs the same however many there are.

Windows are measured by the monotonic clock: setting the clock of the machine neither makes one
longer nor ends it.
"""

from time import monotonic

from limits.aio.storage import Storage

from authapi.clock import now as clock_now

_LEAST_TO_SWEEP = 1024


class MemoryCounters(Storage):
    """How often each key was hit since its window began."""

    def __init__(self) -> None:
        super().__init__()
        self._counters: dict[str, tuple[int, float]] = {}
        """How often, and the monotonic second in which the window ends."""
        self._sweep_at = _LEAST_TO_SWEEP

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = monotonic()
        count, ends = self._live(key, now)
        if count == 0:
            ends = now + expiry
        count += amount
        if count <= 0:
            # Given back entirely: what is not there is nothing to keep, or to count below zero.
            self._counters.pop(key, None)
            return 0
        self._counters[key] = (count, ends)
        if len(self._counters) > self._sweep_at:
            self._sweep(now)
        return count

    async def get(self, key: str) -> int:
        return self._live(key, monotonic())[0]

    async def get_expiry(self, key: str) -> float:
        # The interface wants the time of day.
        now = monotonic()
        count, ends = self._live(key, now)
        return clock_now().timestamp() + (ends - now if count else 0.0)

    async def clear(self, key: str) -> None:
        self._counters.pop(key, None)

    async def reset(self) -> int:
        number = len(self._counters)
        self._counters.clear()
        return number

    async def check(self) -> bool:
        return True

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def _live(self, key: str, now: float) -> tuple[int, float]:
        count, ends = self._counters.get(key, (0, now))
        return (count, ends) if ends > now else (0, now)

    def _sweep(self, now: float) -> None:
        self._counters = {key: kept for key, kept in self._counters.items() if kept[1] > now}
        self._sweep_at = max(_LEAST_TO_SWEEP, 2 * len(self._counters))
