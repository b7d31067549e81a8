"""Wall-clock time for the outbox that does not jump when the system clock is set.

Due times are stored as wall-clock times, so that they survive a restart. With a system clock that
is set back by an hour, every entry would wait for an hour; with one that is set ahead, every delay
and every lease would end at once. This clock *slews* instead, as NTP does: it approaches the new
time gradually.
"""

from datetime import datetime, timedelta
from time import monotonic

from authapi.clock import now

_MAX_SLEW = 0.05
"""How much faster or slower than the monotonic clock this one runs while it slews. A lease of 45
seconds still outlasts a delivery of 40 seconds."""


class SlewedClock:
    """Reads the system clock until `start`; after that follows the monotonic clock."""

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._read_at = 0.0

    def start(self) -> None:
        """Sets this clock to the system clock, and begins to follow the monotonic clock."""
        self._at, self._read_at = now(), monotonic()

    def stop(self) -> None:
        """Reads the system clock again."""
        self._at = None

    def now(self) -> datetime:
        """Returns the time in UTC. It differs from the system clock only after that was set."""
        system = now()
        if self._at is None:
            return system
        read_at = monotonic()
        elapsed = read_at - self._read_at
        expected = self._at + timedelta(seconds=elapsed)
        limit = timedelta(seconds=elapsed * _MAX_SLEW)
        correction = max(-limit, min(system - expected, limit))
        self._at, self._read_at = expected + correction, read_at
        return self._at

    def latest(self) -> datetime:
        """Returns the later of this clock and the system clock, to find entries due by either."""
        return max(self.now(), now())
