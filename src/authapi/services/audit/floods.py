"""How many events strangers can have written down.

Anyone on the internet can cause these events, from as many networks as they have, so limits by
account and by network do not bound the table. Here each type has a number of rows a minute. What
goes beyond it is refused as before, but only counted: by the metric `authapi_events_dropped`, and
by one line a minute in the log. Each process counts for itself.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from authapi.identity import EventType

_log = logging.getLogger(__name__)

BY_STRANGERS: Final = frozenset(
    {
        EventType.LOGIN_REFUSED,
        EventType.ACCESS_REFUSED,
        EventType.THROTTLED,
        EventType.REAUTHENTICATION_REFUSED,
        EventType.PASSWORD_CHANGE_REFUSED,
        EventType.PASSWORD_RESET_REQUESTED,
    }
)
"""Types that need no account, or any account, and change none. Every other event tells of a change
that is committed with it, and is always written down."""
MOST: Final = 100
"""Rows of one type in one window."""
MOST_OF_NO_ACCOUNT: Final = MOST // 2
"""How many of those may name no account. The rest is for events that an owner is shown: addresses
made up by a stranger cannot use it up."""
WINDOW: Final = 60.0
"""Seconds."""


@dataclass(slots=True)
class _Window:
    ends: float
    rows: int = 0
    rows_of_no_account: int = 0
    has_dropped: bool = False


class Floods:
    """Counts the events that strangers cause, by type."""

    def __init__(self) -> None:
        self._windows: dict[EventType, _Window] = {}
        self.dropped = dict.fromkeys(BY_STRANGERS, 0)
        """How many events of each type were not written down since this process started."""
        self.on_drop: Callable[[EventType], None] = _ignore
        """Told the type of each event that is not written down."""

    def admit(self, kind: EventType, *, names_account: bool) -> bool:
        """Whether one more event of this type is written down; it is counted either way."""
        if kind not in BY_STRANGERS:
            return True
        at = monotonic()
        window = self._windows.get(kind)
        if window is None or at >= window.ends:
            window = self._windows[kind] = _Window(ends=at + WINDOW)
        if window.rows < MOST and (names_account or window.rows_of_no_account < MOST_OF_NO_ACCOUNT):
            window.rows += 1
            window.rows_of_no_account += not names_account
            return True
        self._drop(kind, window)
        return False

    def withdraw(self, kind: EventType, *, names_account: bool) -> None:
        """Take back what `admit` counted for an event that is not written down after all."""
        window = self._windows.get(kind)
        if window is not None and window.rows:
            window.rows -= 1
            window.rows_of_no_account -= not names_account and window.rows_of_no_account > 0

    def _drop(self, kind: EventType, window: _Window) -> None:
        self.dropped[kind] += 1
        self.on_drop(kind)
        if not window.has_dropped:
            window.has_dropped = True
            _log.warning(
                "more %s than are written down in a minute: the others are counted",
                kind.value,
                extra={"event_type": kind.value, "dropped": self.dropped[kind]},
            )


def _ignore(_: EventType) -> None:
    return None
