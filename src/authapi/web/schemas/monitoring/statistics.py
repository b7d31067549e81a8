"""Models of the numbers about the service."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from authapi.domain.monitoring.statistics import HOUR, EventCount, QueueCounts, Statistics
from authapi.domain.session import SessionKind
from authapi.domain.signing_key import KeyState
from authapi.web.schemas.fields import Output

Count = Annotated[int, Field(ge=0, examples=[12])]


class AccountCountsOut(Output):
    """The accounts. An account may count several times."""

    total: Count
    active: Count
    deactivated: Count
    confirmed: Annotated[Count, Field(description="Accounts with a confirmed address.")]
    superusers: Count
    mfa: Annotated[Count, Field(description="Accounts with a second factor.")]


class SessionCountsOut(Output):
    """The logins that have not expired, by the kind of their credential."""

    session: Count
    token: Count
    jwt: Count


class EventCountOut(Output):
    """The events of a time, and those of them that are about signing in."""

    events: Count
    sign_ins: Count
    refused_sign_ins: Annotated[
        Count, Field(description="Wrong passwords, second factors and passkeys.")
    ]

    @classmethod
    def of(cls, count: EventCount) -> "EventCountOut":
        """The response for a count."""
        return cls(
            events=count.events,
            sign_ins=count.sign_ins,
            refused_sign_ins=count.refused_sign_ins,
        )


class HourOut(EventCountOut):
    """The events of one hour."""

    since: datetime


class EventCountsOut(Output):
    """The events of the last 24 hours."""

    last_hour: EventCountOut
    last_day: EventCountOut
    by_hour: Annotated[
        list[HourOut], Field(description="24 hours, the oldest first. The last one ends now.")
    ]
    is_complete: Annotated[
        bool,
        Field(description="False if there were so many events that only the newest are counted."),
    ]


class QueueOut(Output):
    """The undelivered entries of the outbox of one kind."""

    kind: Annotated[str, Field(examples=["mail"])]
    waiting: Count
    given_up: Annotated[Count, Field(description="Entries whose last attempt has failed.")]
    oldest_at: Annotated[
        datetime | None, Field(description="The creation of the entry that waits longest.")
    ]

    @classmethod
    def of(cls, queue: QueueCounts) -> "QueueOut":
        """The response for a queue."""
        return cls(
            kind=queue.kind,
            waiting=queue.waiting,
            given_up=queue.given_up,
            oldest_at=queue.oldest_at,
        )


class OutboxCountsOut(Output):
    """The mails, webhooks and requests that wait for a job."""

    waiting: Count
    given_up: Count
    oldest_at: datetime | None
    queues: list[QueueOut]


class KeyCountsOut(Output):
    """The keys that sign JWTs, by state."""

    next: Count
    active: Count
    retired: Count
    next_rotation_at: Annotated[
        datetime | None, Field(description="When the next key begins to sign by itself.")
    ]


class StatisticsOut(Output):
    """Numbers about the service."""

    at: datetime
    accounts: AccountCountsOut
    sessions: SessionCountsOut
    personal_tokens: Count
    events: EventCountsOut
    outbox: OutboxCountsOut
    keys: KeyCountsOut

    @classmethod
    def of(cls, found: Statistics) -> "StatisticsOut":
        """The response for these numbers."""
        accounts, logins, keys = found.accounts, found.sessions.logins, found.keys.by_state
        return cls(
            at=found.at,
            accounts=AccountCountsOut(
                total=accounts.total,
                active=accounts.active,
                deactivated=accounts.deactivated,
                confirmed=accounts.confirmed,
                superusers=accounts.superusers,
                mfa=accounts.mfa,
            ),
            sessions=SessionCountsOut(
                session=logins[SessionKind.SESSION],
                token=logins[SessionKind.TOKEN],
                jwt=logins[SessionKind.JWT],
            ),
            personal_tokens=found.sessions.personal_tokens,
            events=_events_of(found),
            outbox=OutboxCountsOut(
                waiting=found.waiting,
                given_up=found.given_up,
                oldest_at=found.oldest_at,
                queues=[QueueOut.of(queue) for queue in found.queues],
            ),
            keys=KeyCountsOut(
                next=keys[KeyState.NEXT],
                active=keys[KeyState.ACTIVE],
                retired=keys[KeyState.RETIRED],
                next_rotation_at=found.keys.next_rotation_at,
            ),
        )


def _events_of(found: Statistics) -> EventCountsOut:
    events = found.events
    begin = found.at - len(events.by_hour) * HOUR
    return EventCountsOut(
        last_hour=EventCountOut.of(events.last_hour),
        last_day=EventCountOut.of(events.last_day),
        by_hour=[
            HourOut(since=begin + number * HOUR, **EventCountOut.of(count).model_dump())
            for number, count in enumerate(events.by_hour)
        ],
        is_complete=events.is_complete,
    )
