"""The bars of a chart."""

from datetime import date, timedelta

from authapi.services.audit.search import EventCounts
from authapi.web.routes.pages.console.event_views.day_chart import day_chart

FIRST = date(2026, 11, 1)


def counts(*numbers: int) -> EventCounts:
    return EventCounts(
        {FIRST + timedelta(days=day): number for day, number in enumerate(numbers)}, None
    )


def test_the_highest_bar_has_the_full_height() -> None:
    chart = day_chart(counts(0, 10, 5))
    assert chart.path == "M11 60v-60h8v60zM21 60v-30h8v30z"
    assert (chart.width, chart.height, chart.total) == (30, 60, 15)
    assert chart.days == [(FIRST + timedelta(days=2), 5), (FIRST + timedelta(days=1), 10)]


def test_one_event_among_many_is_to_be_seen() -> None:
    assert day_chart(counts(100_000, 1)).path.endswith("v-1h8v1z")


def test_without_events_there_are_no_bars() -> None:
    for numbers in ((), (0, 0)):
        chart = day_chart(counts(*numbers))
        assert (chart.path, chart.days, chart.total) == ("", [], 0)
