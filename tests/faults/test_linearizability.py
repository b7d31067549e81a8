"""The checker of histories: which it accepts, and which it must refuse."""

import itertools
import random
from collections.abc import Sequence

import pytest

from tests.faults.harness.linearizability import Operation, State, is_linearizable

LOGIN = Operation("begin", 0, 1)


def use(called: float, returned: float, *, ok: bool = True) -> Operation:
    return Operation("use", called, returned, ok)


def end(called: float, returned: float) -> Operation:
    return Operation("end", called, returned)


def logout(called: float, returned: float) -> Sequence[Operation]:
    return [use(called, returned), end(called, returned)]


LINEARIZABLE: dict[str, Sequence[Operation]] = {
    "nothing": [],
    "login": [LOGIN],
    "used and ended": [LOGIN, use(2, 3), end(4, 5), use(6, 7, ok=False)],
    "accepted during the end": [LOGIN, end(2, 6), use(3, 4), use(5, 7, ok=False)],
    "refused during the end": [LOGIN, end(2, 6), use(3, 4, ok=False)],
    "two logouts at once": [LOGIN, *logout(2, 6), *logout(3, 5)],
    "one of two logouts": [LOGIN, *logout(2, 6), use(3, 5, ok=False)],
    "lost end had an effect": [LOGIN, Operation("end", 2), use(3, 4), use(5, 6, ok=False)],
    "lost end had none": [LOGIN, Operation("end", 2), use(3, 4)],
    "ended twice": [LOGIN, end(2, 3), end(4, 5), use(6, 7, ok=False)],
    "end that takes long": [LOGIN, end(2, 9), use(3, 4), use(3, 8, ok=False), use(5, 6)],
}
NOT_LINEARIZABLE: dict[str, Sequence[Operation]] = {
    "accepted after the end": [LOGIN, end(2, 3), use(4, 5)],
    "accepted again": [LOGIN, end(2, 9), use(3, 4, ok=False), use(5, 6)],
    "accepted again after a lost end": [LOGIN, Operation("end", 2), use(3, 4, ok=False), use(5, 6)],
    "refused without an end": [LOGIN, use(2, 3, ok=False)],
    "refused before the end": [LOGIN, use(2, 3, ok=False), end(4, 5)],
    "logged out twice": [LOGIN, *logout(2, 3), *logout(4, 5)],
    "accepted after two logouts": [LOGIN, *logout(2, 6), *logout(3, 5), use(7, 8)],
    "used before the login": [use(-2, -1), LOGIN],
    "lost end before the login": [Operation("end", -3), use(-2, -1), LOGIN],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_accepts(name: str) -> None:
    assert is_linearizable(LINEARIZABLE[name])


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_refuses(name: str) -> None:
    assert not is_linearizable(NOT_LINEARIZABLE[name])


def test_staleness_is_a_bound() -> None:
    history = [LOGIN, end(2, 3), use(3.5, 4), use(3.6, 4, ok=False)]
    assert not is_linearizable(history)
    assert not is_linearizable(history, staleness=0.4)
    assert is_linearizable(history, staleness=0.5)
    # It excuses no use that was refused before.
    again = [LOGIN, end(2, 3), use(3.1, 3.2, ok=False), use(3.9, 4)]
    assert not is_linearizable(again, staleness=0.5)


def by_trying_every_order(history: Sequence[Operation]) -> bool:
    """The definition, for short histories without lost responses."""
    for order in itertools.permutations(history):
        state: State | None = State.ABSENT
        for number, operation in enumerate(order):
            if any(later.returned < operation.called for later in order[number + 1 :]):
                state = None
            state = None if state is None else operation.apply(state)
        if state is not None:
            return True
    return False


def test_agrees_with_the_definition() -> None:
    chance, found = random.Random(20), [0, 0]
    for _ in range(400):
        history = [LOGIN]
        for _ in range(chance.randint(1, 5)):
            called = chance.randint(1, 6)
            returned = called + chance.randint(1, 4)
            is_use, ok = chance.random() < 0.7, chance.random() < 0.6
            history.append(use(called, returned, ok=ok) if is_use else end(called, returned))
        expected = by_trying_every_order(history)
        found[expected] += 1
        assert is_linearizable(history) is expected, history
    assert min(found) > 50
