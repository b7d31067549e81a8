"""Exponential backoff of requests to an issuer."""

from math import ceil
from time import monotonic

from authapi.backoff import delay_after


class Backoff:
    """Exponential backoff: about 1 second after the first failure, then 2, 4, up to `max_delay`."""

    def __init__(self, *, max_delay: float) -> None:
        self._max_delay = max_delay
        self.failures = 0
        """Consecutive failures."""
        self._until = 0.0

    def record_success(self) -> None:
        """Resets the delay."""
        self.failures = 0
        self._until = 0.0

    def record_failure(self) -> None:
        """Doubles the delay, up to `max_delay` seconds, and starts it."""
        self.failures += 1
        self._until = monotonic() + delay_after(self.failures, limit=self._max_delay)

    @property
    def is_elapsed(self) -> bool:
        """Whether the delay has passed, so that a new attempt may start."""
        return monotonic() >= self._until

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next attempt, at least 1: the value of Retry-After."""
        return max(ceil(round(self._until - monotonic(), 3)), 1)
