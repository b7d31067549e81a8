"""The time of day as the outbox reads it: set back or ahead, it does not jump.

Due times are kept as times of day, so that they survive a restart. Read from a clock that was set
back by an hour, everything would wait for that hour; set ahead, every pause would be over at once,
and every lease.
"""

from datetime import datetime, timedelta
from time import monotonic

from authapi.clock import now

_SLEW = 0.05
"""How much faster or slower than the monotonic clock this may go, to come back to the time of day.
A lease of 45 seconds still outlasts a delivery of 40."""


class SteadyClock:
    """The time of day until `start`; from then on it goes with the monotonic clock."""

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._read = 0.0

    def start(self) -> None:
        """Begin with the time of day."""
        self._at, self._read = now(), monotonic()

    def stop(self) -> None:
        """Read the time of day again."""
        self._at = None

    def now(self) -> datetime:
        """The time in UTC. It differs from the time of day only for a while after that was set."""
        day = now()
        if self._at is None:
            return day
        read = monotonic()
        passed = read - self._read
        steady = self._at + timedelta(seconds=passed)
        most = timedelta(seconds=passed * _SLEW)
        self._at, self._read = steady + max(-most, min(day - steady, most)), read
        return self._at

    def latest(self) -> datetime:
        """This, or the time of day if that is later: what is due by either."""
        return max(self.now(), now())
