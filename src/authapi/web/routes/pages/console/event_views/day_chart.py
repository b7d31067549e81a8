"""A bar for each day, as the path of an SVG image that the server makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from authapi.services.audit.search import EventCounts

WIDTH: Final = 10
"""Units of one day, of which the bar takes eight."""
HEIGHT: Final = 60


@dataclass(frozen=True, slots=True)
class DayChart:
    """What a page shows of the numbers of events by day."""

    path: str
    """The outline of all bars, for the attribute `d`."""
    width: int
    height: int
    days: Sequence[tuple[date, int]]
    """The days that have events, the newest first."""
    total: int
    counted_since: datetime | None


def day_chart(counts: EventCounts) -> DayChart:
    """Returns the chart of these numbers. The highest bar has the full height."""
    highest = max(counts.by_day.values(), default=0)
    return DayChart(
        path=_outline(counts.by_day, highest),
        width=WIDTH * len(counts.by_day),
        height=HEIGHT,
        days=[(day, number) for day, number in reversed(list(counts.by_day.items())) if number],
        total=sum(counts.by_day.values()),
        counted_since=counts.counted_since,
    )


def _outline(by_day: Mapping[date, int], highest: int) -> str:
    bars = []
    for position, number in enumerate(by_day.values()):
        if number:
            # A day with one event among thousands is still to be seen.
            height = max(round(number * HEIGHT / highest), 1)
            left = position * WIDTH + 1
            bars.append(f"M{left} {HEIGHT}v-{height}h8v{height}z")
    return "".join(bars)
