"""Words for numbers and durations, in findings and in the output of commands."""

from datetime import timedelta

_UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


def pluralize(number: int, singular: str, plural: str | None = None) -> str:
    """Returns `number` with its noun, such as `1 key` or `1,200 keys`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def duration_in_words(duration: timedelta) -> str:
    """Returns a duration such as `14 days` or `1 hour 30 minutes`, which settings accept."""
    seconds, parts = duration.total_seconds(), []
    if seconds % 1:
        return f"{round(seconds * 1000)} milliseconds" if seconds < 1 else f"{seconds:g} seconds"
    rest = int(seconds)
    for name, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
    return " ".join(parts) or "0 seconds"
