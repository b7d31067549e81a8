"""How many deliveries a receiver has at one time, as it arrives and as it fails."""

import pytest

from authapi.services.background.receivers import SHARE, Receiver


def failing(times: int, *, at: float = 0.0) -> Receiver:
    receiver = Receiver()
    for _ in range(times):
        receiver.failed(at)
    return receiver


def test_a_share_is_filled_and_refilled() -> None:
    receiver = Receiver()
    assert receiver.room(0) == SHARE == 5
    receiver.deliveries = 3
    assert receiver.room(0) == 2
    receiver.deliveries = 5
    assert receiver.room(0) == 0
    receiver.deliveries = 4
    assert receiver.room(0) == 1


@pytest.mark.parametrize("times", [1, 4])
def test_a_failure_now_and_then_costs_nothing(times: int) -> None:
    assert failing(times).room(0) == SHARE


def test_one_that_keeps_failing_is_probed_by_one_delivery() -> None:
    receiver = failing(5)
    assert receiver.room(0.99) == 0
    assert receiver.room(1) == 1
    receiver.deliveries = 1
    assert receiver.room(1) == 0
    receiver.deliveries = 5  # those that went on when it began to fail
    assert receiver.room(1) == 0


def test_the_pauses_between_probes_grow_to_half_a_minute() -> None:
    receiver, pauses, at = failing(4), [], 0.0
    for _ in range(8):
        receiver.failed(at)
        pause = next(pause for pause in range(100) if receiver.room(at + pause))
        assert receiver.room(at + pause - 0.01) == 0
        pauses.append(pause)
        at += pause
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_one_that_failed_for_weeks_is_probed_as_often() -> None:
    assert (failing(100_000).room(29.9), failing(100_000).room(30)) == (0, 1)


def test_a_delivery_that_arrives_ends_it() -> None:
    receiver = failing(50)
    receiver.arrived()
    assert receiver.room(0) == SHARE
    receiver.failed(0)
    assert receiver.room(0) == SHARE, "it has failed once since then"


def test_a_pause_may_be_passed_over_and_the_one_delivery_may_not() -> None:
    receiver = failing(5)
    assert receiver.room(0, pauses=False) == 1
    receiver.deliveries = 1
    assert receiver.room(0, pauses=False) == 0
