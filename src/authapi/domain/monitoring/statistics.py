"""Numbers about the service: what an operator looks at first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authapi.domain.events import EventType
from authapi.domain.session import SessionKind
from authapi.domain.signing_key import KeyState

HOURS: Final = 24
"""The number of hours that are counted one by one, until now."""
HOUR: Final = timedelta(hours=1)
SIGN_INS = frozenset({EventType.LOGIN})
REFUSED_SIGN_INS = frozenset(
    {EventType.LOGIN_REFUSED, EventType.SECOND_FACTOR_REFUSED, EventType.PASSKEY_REFUSED}
)


@dataclass(frozen=True, slots=True)
class AccountCounts:
    """The accounts, of which each may count several times."""

    total: int
    active: int
    confirmed: int
    superusers: int
    mfa: int
    """Accounts with a second factor."""

    @property
    def deactivated(self) -> int:
        """Accounts that are not active."""
        return self.total - self.active


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """The sessions that have not expired."""

    logins: Mapping[SessionKind, int]
    """Logins by the kind of their credential."""
    personal_tokens: int


@dataclass(frozen=True, slots=True)
class EventCount:
    """The events of one hour, and those of them that are about signing in."""

    events: int = 0
    sign_ins: int = 0
    refused_sign_ins: int = 0

    def __add__(self, other: "EventCount") -> "EventCount":
        """Returns the sum of both."""
        return EventCount(
            self.events + other.events,
            self.sign_ins + other.sign_ins,
            self.refused_sign_ins + other.refused_sign_ins,
        )


@dataclass(frozen=True, slots=True)
class EventCounts:
    """The events of the last 24 hours."""

    by_hour: Sequence[EventCount]
    """The oldest hour first. The last one ends now."""
    is_complete: bool
    """False if there were so many that only the newest ones are counted."""

    @property
    def last_hour(self) -> EventCount:
        """The events of the last hour."""
        return self.by_hour[-1]

    @property
    def last_day(self) -> EventCount:
        """The events of the last 24 hours."""
        return sum(self.by_hour, EventCount())


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The undelivered entries of the outbox of one kind."""

    kind: str
    waiting: int
    given_up: int
    """Entries whose last attempt has failed."""
    oldest_at: datetime | None
    """The creation of the entry that waits longest; None if none waits."""


@dataclass(frozen=True, slots=True)
class TableSize:
    """The size of a table of the database."""

    name: str
    rows: int | None
    """None if the database has no statistics yet."""
    is_estimated: bool
    """Whether the rows are an estimate of the database."""
    bytes: int | None
    """On the disk, with indexes; None if the database does not tell."""


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """The signing keys."""

    by_state: Mapping[KeyState, int]
    next_rotation_at: datetime | None
    """When the next key begins to sign by itself; None without keys. In the past, it is due."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """All numbers, at one time."""

    at: datetime
    accounts: AccountCounts
    sessions: SessionCounts
    events: EventCounts
    queues: Sequence[QueueCounts]
    keys: KeyCounts

    @property
    def waiting(self) -> int:
        """The entries of the outbox that wait, of all kinds."""
        return sum(queue.waiting for queue in self.queues)

    @property
    def given_up(self) -> int:
        """The entries of the outbox that were given up, of all kinds."""
        return sum(queue.given_up for queue in self.queues)

    @property
    def oldest_at(self) -> datetime | None:
        """The creation of the entry of the outbox that waits longest; None if none waits."""
        return min((queue.oldest_at for queue in self.queues if queue.oldest_at), default=None)
