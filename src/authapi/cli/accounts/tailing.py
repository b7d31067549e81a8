"""`authapi events tail`: prints events as they are recorded."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.domain.events import Event, EventFilter
from authapi.services import Services

_OVERLAP = timedelta(seconds=60)
"""An id is made before its transaction ends: an event can appear after newer ones. A transaction
of a request is shorter than this."""
_PAGE = 500


async def follow(
    services: Services, wanted: EventFilter, *, lines: int, interval: float
) -> AsyncGenerator[Event]:
    """Yields the last `lines` events, the oldest first, and then new ones. It does not end.

    `interval` is the pause between two looks at the database, in seconds.
    """
    looked_at = now()
    first = first_id_at(looked_at - _OVERLAP)
    seen = {event.id for event in await _since(services, wanted, first)}
    last = await services.audit.search(wanted, limit=lines) if lines else ()
    for event in reversed(last):
        seen.add(event.id)
        yield event
    while True:
        await asyncio.sleep(interval)
        # From the last look on: the pause may be longer than the overlap, as after a suspend.
        first, looked_at = first_id_at(looked_at - _OVERLAP), now()
        found = await _since(services, wanted, first)
        for event in reversed(found):
            if event.id not in seen:
                yield event
        seen = {event.id for event in found}


async def _since(services: Services, wanted: EventFilter, first: UUID) -> Sequence[Event]:
    recent = replace(wanted, since=first if wanted.since is None else max(first, wanted.since))
    events: list[Event] = []
    while True:
        before = events[-1].id if events else None
        page = await services.audit.search(recent, before=before, limit=_PAGE)
        events += page
        if len(page) < _PAGE:
            return events
