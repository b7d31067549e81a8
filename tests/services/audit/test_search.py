"""Searches of events that look at a limited number of them."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from authapi import Settings, create_app
from authapi.crypto.ids import first_id_at, id_at
from authapi.domain.client import Client as Peer
from authapi.domain.events import Event, EventFilter, EventType
from authapi.services.audit import search
from authapi.testing import Client, client
from tests.clocks import travel_to

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
OWNER = UUID(int=7 << 76 | 2 << 62)
REFUSED = EventFilter(type=EventType.LOGIN_REFUSED)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        yield found


async def add(api: Client, at: datetime, kind: EventType = EventType.LOGIN_REFUSED) -> Event:
    event = Event(id_at(at), at, kind, OWNER, None, None, Peer("192.0.2.1"), {})
    async with api.services.database.transaction() as store:
        await store.events.add(event)
    return event


async def test_a_search_stops_at_its_limit_and_goes_on(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_EXAMINED", 4)
    events = [await add(api, NOON - timedelta(minutes=number)) for number in range(3)]
    for number in range(5):
        await add(api, NOON - timedelta(hours=1, minutes=number), EventType.LOGIN)
    last = await add(api, NOON - timedelta(days=1))
    explorer = api.services.audit_search
    first = await explorer.find(REFUSED, before=None, limit=2)
    assert ([event.id for event in first.events], first.is_cut) == (
        [event.id for event in events[:2]],
        False,
    )
    assert first.next == events[1].id
    second = await explorer.find(REFUSED, before=first.next, limit=2)
    assert [event.id for event in second.events] == [events[2].id]
    assert second.is_cut
    third = await explorer.find(REFUSED, before=second.next, limit=2)
    assert [event.id for event in third.events] == [last.id]
    assert (third.next, third.is_cut) == (None, False)


async def test_events_are_counted_by_day(api: Client) -> None:
    for days in (0, 0, 1, 29, 30):
        await add(api, NOON - timedelta(days=days))
    await add(api, NOON, EventType.LOGIN)
    explorer = api.services.audit_search
    with travel_to(NOON + timedelta(hours=1)):
        counts = await explorer.count_by_day(REFUSED)
        assert len(counts.by_day) == 30
        assert {day: number for day, number in counts.by_day.items() if number} == {
            date(2026, 10, 30): 1,
            date(2026, 11, 27): 1,
            date(2026, 11, 28): 2,
        }
        assert list(counts.by_day) == sorted(counts.by_day)
        assert counts.counted_since is None
        since = first_id_at(datetime(2026, 11, 27, tzinfo=UTC))
        narrow = await explorer.count_by_day(EventFilter(since=since, until=None))
        assert narrow.by_day == {date(2026, 11, 27): 1, date(2026, 11, 28): 3}
        until = first_id_at(datetime(2026, 11, 28, tzinfo=UTC))
        before = await explorer.count_by_day(EventFilter(user_id=OWNER, until=until))
        assert max(before.by_day) == date(2026, 11, 27)
        assert sum(before.by_day.values()) == 3


async def test_a_count_says_since_when_it_counts(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_COUNTED", 2)
    events = [await add(api, NOON - timedelta(days=number)) for number in range(4)]
    with travel_to(NOON + timedelta(hours=1)):
        counts = await api.services.audit_search.count_by_day(REFUSED)
    assert sum(counts.by_day.values()) == 2
    assert counts.counted_since == events[1].at


async def test_days_end_at_midnight_in_utc(api: Client) -> None:
    midnight = datetime(2026, 11, 28, tzinfo=UTC)
    await add(api, midnight)
    await add(api, midnight - timedelta(milliseconds=1))
    with travel_to(NOON):
        counts = await api.services.audit_search.count_by_day(REFUSED)
    assert list(counts.by_day.values())[-2:] == [1, 1]
