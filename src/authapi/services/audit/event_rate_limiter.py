"""Limits the events that unauthenticated clients can have recorded.

Any client on the internet can cause these events, from as many networks as it controls, so limits
by account and by network do not bound the table. Each event type therefore has a limit of rows a
minute. A request beyond it is refused as before, but its event is only counted: in the metric
`authapi_events_dropped_total`, and in one log line a minute. Each process has limits of its own.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from authapi.domain.events import EventType

_log = logging.getLogger(__name__)

LIMITED_TYPES: Final = frozenset(
    {
        EventType.LOGIN_REFUSED,
        EventType.ACCESS_REFUSED,
        EventType.THROTTLED,
        EventType.REAUTHENTICATION_REFUSED,
        EventType.PASSWORD_CHANGE_REFUSED,
        EventType.PASSWORD_RESET_REQUESTED,
        EventType.SECOND_FACTOR_REFUSED,
    }
)
"""Event types that clients can cause without an account, or with any account of their own, and that
report no change. Every other event is committed together with a change, and always recorded."""
MAX_ROWS: Final = 100
"""Rows of one type in one window."""
MAX_ROWS_WITHOUT_ACCOUNT: Final = MAX_ROWS // 2
"""How many of those may name no account. Email addresses that an attacker invents thus cannot use
up the rows of events that the owner of an account is shown."""
WINDOW: Final = 60.0
"""Seconds."""

OnDrop = Callable[[EventType], None]


@dataclass(slots=True)
class _Window:
    ends_at: float
    rows: int = 0
    rows_without_account: int = 0
    has_dropped: bool = False


class EventRateLimiter:
    """Counts the events of `LIMITED_TYPES` in windows of 60 seconds, by type.

    `on_drop` is called with the type of each event that is not recorded.
    """

    def __init__(self, on_drop: OnDrop | None = None) -> None:
        self._on_drop = on_drop
        self._windows: dict[EventType, _Window] = {}
        self.dropped = dict.fromkeys(LIMITED_TYPES, 0)
        """Number of events of each type that were not recorded since this process started."""

    def allow(self, kind: EventType, *, names_account: bool) -> bool:
        """Whether one more event of this type may be recorded. Counts it if so, or as dropped."""
        if kind not in LIMITED_TYPES:
            return True
        at = monotonic()
        window = self._windows.get(kind)
        if window is None or at >= window.ends_at:
            window = self._windows[kind] = _Window(ends_at=at + WINDOW)
        if window.rows < MAX_ROWS and (
            names_account or window.rows_without_account < MAX_ROWS_WITHOUT_ACCOUNT
        ):
            window.rows += 1
            window.rows_without_account += not names_account
            return True
        self._drop(kind, window)
        return False

    def refund(self, kind: EventType, *, names_account: bool) -> None:
        """Takes back what `allow` counted, for an event that could not be stored."""
        window = self._windows.get(kind)
        if window is not None and window.rows:
            window.rows -= 1
            window.rows_without_account -= not names_account and window.rows_without_account > 0

    def _drop(self, kind: EventType, window: _Window) -> None:
        self.dropped[kind] += 1
        if self._on_drop is not None:
            self._on_drop(kind)
        if not window.has_dropped:
            window.has_dropped = True
            _log.warning(
                "rate limit of %s events exceeded: further ones are only counted",
                kind.value,
                extra={"event_type": kind.value, "dropped": self.dropped[kind]},
            )
