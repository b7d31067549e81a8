"""Decides whether a history of one session is linearizable.

A history is linearizable if each operation can be given one moment between its call and its
return such that the operations, in the order of these moments, have the results that a single
session without any concurrency would give them (Herlihy and Wing). The search is that of Wing and
Gong, with the states that it has seen remembered (Lowe).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

What = Literal["begin", "use", "end"]


class State(Enum):
    """What a session is."""

    ABSENT = "absent"
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Operation:
    """One request. Times are those of `time.monotonic()`."""

    what: What
    """`begin` is a login, `use` a request that needs the session to be live, and `end` ends it if
    it is. A logout is a use and an end with the same times: of two at once, both may succeed."""
    called: float
    returned: float = math.inf
    """Infinity if there was no response: the request took effect at any time, or never."""
    is_accepted: bool = True
    """Whether the service accepted the credential."""

    @property
    def is_pending(self) -> bool:
        return self.returned == math.inf

    def apply(self, state: State) -> State | None:
        """Returns the next state; None if the operation has another result in this one."""
        if self.what == "begin":
            return State.LIVE if state is State.ABSENT else None
        if self.what == "end":
            return State.ENDED if state is State.LIVE else state
        return state if self.is_pending or self.is_accepted is (state is State.LIVE) else None


def is_linearizable(history: Sequence[Operation], *, staleness: float = 0.0) -> bool:
    """Returns whether the history of a session, which begins with its login, is linearizable.

    `staleness`, in seconds, is how long after its end a session may still be accepted for a use: an
    accepted use may have its moment that much before its call.
    """
    operations = [
        (one.called - staleness * (one.what == "use" and one.is_accepted), one) for one in history
    ]
    completed = sum(1 << number for number, it in enumerate(history) if not it.is_pending)
    start = ((1 << len(history)) - 1, State.ABSENT)
    waiting, seen = [start], {start}
    while waiting:
        left, state = waiting.pop()
        if not left & completed:
            return True
        indexes = [number for number in range(len(history)) if left >> number & 1]
        # No operation comes before one that had returned when it was called.
        latest = min(history[number].returned for number in indexes)
        for number in indexes:
            called, operation = operations[number]
            if called > latest or (after := operation.apply(state)) is None:
                continue
            found = (left & ~(1 << number), after)
            if found not in seen:
                seen.add(found)
                waiting.append(found)
    return False
