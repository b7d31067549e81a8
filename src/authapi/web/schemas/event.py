"""Models of audit events, as the owner of an account sees them."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, JsonValue

from authapi.domain.events import Event, EventType
from authapi.web.schemas.fields import Output, Time


class EventOut(Output):
    """An audit event of the account of the caller."""

    id: UUID
    at: Time
    type: EventType
    outcome: Literal["success", "refused"]
    session_id: UUID | None
    strategy: str | None
    ip: str | None
    user_agent: str | None
    request_id: str | None
    detail: dict[str, JsonValue]

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        """The representation of `event` for the owner of the account."""
        return cls.model_validate(
            {
                "id": event.id,
                "at": event.at,
                "type": event.type,
                "outcome": event.outcome,
                "session_id": event.session_id,
                "strategy": event.strategy,
                # The address and user agent of a superuser are personal data of the superuser.
                "ip": event.client.ip if event.actor_id is None else None,
                "user_agent": event.client.user_agent if event.actor_id is None else None,
                "request_id": event.client.request_id,
                "detail": dict(event.detail),
            }
        )


class EventPage(Output):
    """A page of audit events."""

    items: list[EventOut]
    next: Annotated[
        UUID | None,
        Field(description="Value of `before` for the next page; null on the last page."),
    ]
