"""Slots and circuit breaker of one receiver."""

import pytest

from authapi.services.jobs.deliveries import SLOTS, Receiver


def failing(times: int, *, at: float = 0.0) -> Receiver:
    receiver = Receiver()
    for _ in range(times):
        receiver.record_failure(at)
    return receiver


def test_slots_are_filled_and_refilled() -> None:
    receiver = Receiver()
    assert receiver.free_slots(0) == SLOTS == 5
    receiver.deliveries = 3
    assert receiver.free_slots(0) == 2
    receiver.deliveries = 5
    assert receiver.free_slots(0) == 0
    receiver.deliveries = 4
    assert receiver.free_slots(0) == 1


@pytest.mark.parametrize("times", [1, 4])
def test_few_failures_leave_the_circuit_closed(times: int) -> None:
    assert failing(times).free_slots(0) == SLOTS


def test_an_open_circuit_allows_one_probe() -> None:
    receiver = failing(5)
    assert receiver.free_slots(0.99) == 0
    assert receiver.free_slots(1) == 1
    receiver.deliveries = 1
    assert receiver.free_slots(1) == 0
    receiver.deliveries = 5  # deliveries that were running when the circuit opened
    assert receiver.free_slots(1) == 0


def test_the_delays_between_probes_grow_to_30_seconds() -> None:
    receiver, delays, at = failing(4), [], 0.0
    for _ in range(8):
        receiver.record_failure(at)
        delay = next(delay for delay in range(100) if receiver.free_slots(at + delay))
        assert receiver.free_slots(at + delay - 0.01) == 0
        delays.append(delay)
        at += delay
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


def test_many_failures_do_not_lengthen_the_delay() -> None:
    assert (failing(100_000).free_slots(29.9), failing(100_000).free_slots(30)) == (0, 1)


def test_a_success_closes_the_circuit() -> None:
    receiver = failing(50)
    receiver.record_success()
    assert receiver.free_slots(0) == SLOTS
    receiver.record_failure(0)
    assert receiver.free_slots(0) == SLOTS, "one failure since the success"


def test_ignoring_delays_still_allows_only_one_probe() -> None:
    receiver = failing(5)
    assert receiver.free_slots(0, ignore_delays=True) == 1
    receiver.deliveries = 1
    assert receiver.free_slots(0, ignore_delays=True) == 0
