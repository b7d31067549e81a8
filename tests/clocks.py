"""Clocks for tests: the system clock and the monotonic clock, moved together or separately."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
import time_machine

from authapi.clock import now

_MODULES = (
    "authapi.services.audit.event_rate_limiter",
    "authapi.services.jobs.slewed_clock",
    "authapi.services.rate_limit_storage",
)


class MonotonicClock:
    """A monotonic clock that only the test advances."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def travel_to(moment: datetime) -> Iterator[time_machine.Traveller]:
    """Stops both clocks at `moment`. Shifting the traveller moves both."""
    with time_machine.travel(moment, tick=False) as clock, pytest.MonkeyPatch.context() as patch:
        for module in _MODULES:
            patch.setattr(f"{module}.monotonic", lambda: now().timestamp())
        yield clock


@contextmanager
def set_system_clock(moment: datetime) -> Iterator[tuple[time_machine.Traveller, MonotonicClock]]:
    """Stops both clocks at `moment`. The traveller sets the system clock only."""
    monotonic = MonotonicClock()
    with time_machine.travel(moment, tick=False) as clock, pytest.MonkeyPatch.context() as patch:
        for module in _MODULES:
            patch.setattr(f"{module}.monotonic", monotonic)
        yield clock, monotonic
