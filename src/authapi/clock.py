"""The current time, and parsing of timestamps (RFC 3339). Only this module reads the wall clock."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta

_DATE_TIME = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]"
    r"(?P<minute>(?:[01][0-9]|2[0-3]):[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
    r"(?:\.(?P<fraction>[0-9]+))?"
    r"(?P<offset>[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)

_RESOLUTION = timedelta(microseconds=1)
"""The smallest difference between two times that the database can store."""
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


def now() -> datetime:
    """The current time in UTC, with microseconds."""
    return datetime.now(UTC)


def now_after(previous: datetime) -> datetime:
    """Returns the current time, or just after `previous` if the clock was set back."""
    return max(now(), previous + _RESOLUTION)


def parse_time(text: str) -> datetime:
    """Parses a `date-time` of RFC 3339, section 5.6, and converts it to UTC.

    Digits below a microsecond are truncated. A leap second is allowed only at the end of a month in
    UTC (section 5.7), and becomes the first second of the next month, as in Unix time. `T` and `Z`
    may be in lower case; a space instead of the `T` is not allowed. A time that lies before year 1
    or after year 9999 in UTC becomes the earliest or latest `datetime`. Raises ValueError for all
    other texts.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("must be a time of RFC 3339")
    offset = match["offset"].upper().replace("Z", "+00:00")
    minute = datetime.fromisoformat(f"{match['date']}T{match['minute']}:00{offset}")
    microseconds = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    try:
        start = minute.astimezone(UTC)
        if match["second"] == "60":
            last_day = monthrange(start.year, start.month)[1]
            if (start.day, start.hour, start.minute) != (last_day, 23, 59):
                raise ValueError("a leap second must be the last second of a month in UTC")
        return start + timedelta(seconds=int(match["second"]), microseconds=microseconds)
    except OverflowError:
        return _FIRST if minute.year == 1 else _LAST
