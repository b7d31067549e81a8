"""Clocks for tests: the time of day and the monotonic clock, moved together or apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
import time_machine

from authapi.clock import now

_MEASURED = (
    "authapi.services.audit.floods",
    "authapi.services.background.steady",
    "authapi.services.counters",
)


class Monotonic:
    """A monotonic clock that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def time_passes(moment: datetime) -> Iterator[time_machine.Traveller]:
    """It is `moment`, and time stands still. What moves the traveller moves both clocks."""
    with time_machine.travel(moment, tick=False) as clock, pytest.MonkeyPatch.context() as patch:
        for module in _MEASURED:
            patch.setattr(f"{module}.monotonic", lambda: now().timestamp())
        yield clock


@contextmanager
def clock_is_set(moment: datetime) -> Iterator[tuple[time_machine.Traveller, Monotonic]]:
    """It is `moment`. The traveller sets the clock of the machine; time passes in the other."""
    monotonic = Monotonic()
    with time_machine.travel(moment, tick=False) as clock, pytest.MonkeyPatch.context() as patch:
        for module in _MEASURED:
            patch.setattr(f"{module}.monotonic", monotonic)
        yield clock, monotonic
