"""Parses durations in settings: seconds, words such as `1h 30m`, or ISO 8601."""

import re
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

_SECONDS = re.compile(r"[0-9]+", re.ASCII)
_PART = r"([0-9]+(?:\.[0-9]+)?) ?([a-z]+)"
_WORDS = re.compile(rf"{_PART}(?:[ ,]*{_PART})*", re.ASCII)
_UNITS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), timedelta(milliseconds=1)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), timedelta(seconds=1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day", "days"), timedelta(days=1)),
    **dict.fromkeys(("w", "week", "weeks"), timedelta(weeks=1)),
}
_ISO_8601 = TypeAdapter(timedelta)
EXPECTED = "must be a duration: a number of seconds, or like 90s, 10m, 1h 30m, 14d or PT1H"


def parse_duration(text: str) -> timedelta:
    """Parses a duration.

    Each unit may occur once. Months and years have no fixed length and are not accepted. Raises
    ValueError, which does not repeat `text`, if `text` is not a duration.
    """
    stripped = text.strip()
    try:
        if _SECONDS.fullmatch(stripped):
            return timedelta(seconds=int(stripped))
        if _WORDS.fullmatch(stripped.lower()):
            return _sum_units(stripped.lower())
        return _ISO_8601.validate_python(stripped)
    except (ValueError, OverflowError, ValidationError):
        raise ValueError(EXPECTED) from None


def as_duration(value: object) -> object:
    """Parses a string as a duration; returns other values unchanged. Raises ValueError."""
    return parse_duration(value) if isinstance(value, str) else value


def as_seconds(value: object) -> object:
    """Converts a duration to a number of seconds, for settings in seconds. Raises ValueError."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return parse_duration(value).total_seconds()
    return value.total_seconds() if isinstance(value, timedelta) else value


def _sum_units(stripped: str) -> timedelta:
    parts = [(number, _UNITS.get(unit)) for number, unit in re.findall(_PART, stripped)]
    units = [unit for _, unit in parts]
    if None in units or len(set(units)) != len(units):
        raise ValueError
    return sum((float(number) * unit for number, unit in parts if unit), timedelta())
