"""Searches of events in bounded time, for a page that shows them.

No index has the type, the actor or the address of an event, because each event would pay for it. So
a search looks at a limited number of events, and tells how far it came. An account has an index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.domain.events import Event, EventFilter
from authapi.storage import Database

MAX_EXAMINED: Final = 20_000
"""Events that one search looks at."""
MAX_COUNTED: Final = 20_000
"""Events that one count looks at."""
DAYS: Final = 30
"""Days of a count."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """What a search has found, the newest event first."""

    events: Sequence[Event]
    next: UUID | None
    """Where the search goes on: before this event. None if there are no further events."""
    is_cut: bool
    """Whether the search has ended at its limit, before it found as many events as were wanted."""


@dataclass(frozen=True, slots=True)
class EventCounts:
    """The numbers of events of each day (UTC), the oldest day first. It has each day."""

    by_day: Mapping[date, int]
    counted_since: datetime | None
    """The time of the oldest event that was counted, if there are more; None if all were."""


class AuditSearch:
    """Finds and counts the events of all users.

    Each call raises StorageUnavailable if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, wanted: EventFilter, *, before: UUID | None, limit: int) -> FoundEvents:
        """Returns up to `limit` matching events that are older than the event `before`.

        One query; another one if the limit of the search was reached.
        """
        has_index = not (wanted.type or wanted.types or wanted.ip or wanted.actor_id)
        async with self._database.read() as store:
            if has_index:
                events = await store.events.search(wanted, before=before, limit=limit + 1)
            else:
                events = await store.events.search_newest(
                    wanted, before=before, limit=limit + 1, examined=MAX_EXAMINED
                )
        if has_index and len(events) <= limit:
            return FoundEvents(events, None, is_cut=False)
        if len(events) > limit:
            return FoundEvents(events[:limit], events[limit - 1].id, is_cut=False)
        async with self._database.read() as store:
            last = await store.events.find_nth(wanted, before=before, number=MAX_EXAMINED)
        return FoundEvents(events, None if last is None else last[0], is_cut=last is not None)

    async def count_by_day(self, wanted: EventFilter) -> EventCounts:
        """Returns the numbers of matching events of the last 30 days within the filter."""
        today = now().date()
        if wanted.until is not None:
            # The filter excludes this id, so the day before a midnight is the last one.
            today = min(today, (_time_of(wanted.until) - timedelta(milliseconds=1)).date())
        days = [today - timedelta(days=number) for number in reversed(range(DAYS))]
        first = first_id_at(datetime.combine(days[0], time(), UTC))
        since = first if wanted.since is None else max(first, wanted.since)
        bounded = replace(wanted, since=since)
        async with self._database.read() as store:
            found = await store.events.count_by_day(bounded, examined=MAX_COUNTED)
        async with self._database.read() as store:
            last = await store.events.find_nth(bounded, before=None, number=MAX_COUNTED)
        if wanted.since is not None:
            start = _time_of(wanted.since).date()
            days = [day for day in days if day >= start]
        return EventCounts(
            {day: found.get(day, 0) for day in days}, None if last is None else last[1]
        )


def _time_of(event_id: UUID) -> datetime:
    """Returns the time in a UUIDv7."""
    return _EPOCH + timedelta(milliseconds=event_id.int >> 80)
