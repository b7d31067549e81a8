"""The one place that reads the time, and times as they are written (RFC 3339)."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta

_WRITTEN = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]"
    r"(?P<minute>(?:[01][0-9]|2[0-3]):[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
    r"(?:\.(?P<fraction>[0-9]+))?"
    r"(?P<offset>[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


def now() -> datetime:
    """The present moment, in UTC, to the microsecond."""
    return datetime.now(UTC)


def parse_time(text: str) -> datetime:
    """The moment that `text` names, in UTC: a `date-time` of RFC 3339, section 5.6.

    What lies below a microsecond is cut off. A leap second, which may only be the last of a month
    in UTC (section 5.7), is the first moment of the next one, as Unix time has it. The letters may
    be in lower case; a space in place of the T is not read. A moment before the year
    1 or after 9999 in UTC becomes the first or the last of these years. Raises ValueError for
    anything else.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError("must be a time of RFC 3339")
    offset = match["offset"].upper().replace("Z", "+00:00")
    minute = datetime.fromisoformat(f"{match['date']}T{match['minute']}:00{offset}")
    micros = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    try:
        start = minute.astimezone(UTC)
        if match["second"] == "60":
            last = monthrange(start.year, start.month)[1]
            if (start.day, start.hour, start.minute) != (last, 23, 59):
                raise ValueError("a leap second is the last of a month in UTC")
        return start + timedelta(seconds=int(match["second"]), microseconds=micros)
    except OverflowError:
        return _FIRST if minute.year == 1 else _LAST
