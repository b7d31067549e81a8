"""Events as the console shows them: what happened, to whom, by whom, and from where."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from authapi.domain.events import REFUSALS, Event
from authapi.web.pages.account.device_names import client_name
from authapi.web.pages.account.event_texts import OF_OTHERS, event_sentence
from authapi.web.pages.reader import language_of
from authapi.web.pages.site import site_of
from authapi.web.routes.pages.console.caller import Administrator


@dataclass(frozen=True, slots=True)
class EventRow:
    """What the console shows of one event."""

    at: datetime
    type: str
    sentence: str
    is_refused: bool
    user_id: UUID | None
    """The account; None if there is none any longer."""
    user: str
    """Its address, or its id if it was deleted; may be empty."""
    actor_id: UUID | None
    actor: str
    place: str
    """The device and the address of the client; may be empty."""


async def event_rows(caller: Administrator, events: Sequence[Event]) -> Sequence[EventRow]:
    """Returns what a page shows of `events`. One query finds the addresses of all accounts."""
    ids = {
        found for event in events for found in (event.user_id, event.actor_id) if found is not None
    }
    emails = await caller.services.accounts.access.emails_of(ids)
    site, language = site_of(caller.request), language_of(caller.request)

    def name(user_id: UUID | None) -> str:
        return "" if user_id is None else emails.get(user_id, str(user_id))

    def known(user_id: UUID | None) -> UUID | None:
        return user_id if user_id in emails else None

    return [
        EventRow(
            at=event.at,
            type=event.type.value,
            sentence=event_sentence(site, language, event, OF_OTHERS),
            is_refused=event.type in REFUSALS,
            user_id=known(event.user_id),
            user=name(event.user_id),
            actor_id=known(event.actor_id),
            actor=name(event.actor_id),
            place=client_name(site, language, event.client),
        )
        for event in events
    ]
