"""Limits the deliveries to one receiver: a number of slots, and a circuit breaker."""

from authapi.errors import DeliveryFailed

SLOTS = 5
"""Concurrent deliveries to one receiver, in one process."""
_FAILURE_THRESHOLD = 5
"""Consecutive failures after which the circuit opens: the receiver is only probed."""
_MAX_PROBE_DELAY = 30.0
"""Longest delay between two probes, in seconds."""
_MAX_EXPONENT = 20
"""2.0 to this power is far above any delay, and far below the largest float."""


class EntryFailed(DeliveryFailed):
    """A delivery failed because of the entry itself; the receiver accepts other entries."""


class Receiver:
    """The state of one receiver in this process. Times are those of `time.monotonic`.

    A receiver has `SLOTS` slots for concurrent deliveries. After several consecutive failures the
    circuit opens: one delivery at a time probes the receiver, with delays of 1, 2, 4 seconds and so
    on between probes. The first successful delivery closes the circuit.
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
        exponent = min(self._failures - _FAILURE_THRESHOLD, _MAX_EXPONENT)
        if exponent >= 0:
            self._next_probe_at = at + min(2.0**exponent, _MAX_PROBE_DELAY)
