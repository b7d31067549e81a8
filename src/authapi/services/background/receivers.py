"""How many deliveries to one receiver go on at one time in this process."""

from authapi.errors import DeliveryFailed

SHARE = 5
"""Deliveries to one receiver at one time."""
_FAILURES = 5
"""Failures in a row after which a receiver is only probed."""
_LONGEST_PAUSE = 30.0
"""Seconds between the end of one probe and the next, at most."""
_LARGEST_EXPONENT = 20
"""2.0 to the power of this is far above any pause, and far below what a float can hold."""


class EntryFailed(DeliveryFailed):
    """One entry did not get through for a reason of its own; the receiver takes others."""


class Receiver:
    """A receiver as this process has found it. Times are those of `time.monotonic`.

    It has `SHARE` deliveries at one time. After several failures in a row it is probed, by one
    delivery at a time, with pauses of 1, 2, 4 seconds and so on in between. The first delivery that
    arrives ends that.
    """

    def __init__(self) -> None:
        self.deliveries = 0
        """How many go on."""
        self.has_more = False
        """Whether as many entries were claimed as there was room for, the last time."""
        self._failures = 0
        self._probed_at = 0.0

    def room(self, at: float, *, pauses: bool = True) -> int:
        """How many deliveries may begin at the time `at`; without `pauses`, no pause is kept."""
        if self._failures < _FAILURES:
            return SHARE - self.deliveries
        if pauses and at < self._probed_at:
            return 0
        return max(0, 1 - self.deliveries)

    def arrived(self) -> None:
        """Note that a delivery has arrived."""
        self._failures = 0

    def failed(self, at: float) -> None:
        """Note that the receiver has failed, at the time `at`."""
        self._failures += 1
        exponent = min(self._failures - _FAILURES, _LARGEST_EXPONENT)
        if exponent >= 0:
            self._probed_at = at + min(2.0**exponent, _LONGEST_PAUSE)
