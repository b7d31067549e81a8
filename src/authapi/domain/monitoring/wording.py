"""Words for numbers and durations, in findings and in the output of commands."""

from datetime import timedelta

_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")
_UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


def pluralize(number: int, singular: str, plural: str | None = None) -> str:
    """Returns `number` with its noun, such as `1 key` or `1,200 keys`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def size_in_words(size: int) -> str:
    """Returns a number of bytes such as `512 bytes`, `4.2 MiB` or `1,300 TiB`."""
    value, unit = float(size), _SIZES[0]
    for unit in _SIZES:
        if value < 1024 or unit == _SIZES[-1]:
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if value >= 100 or unit == "bytes" else f"{value:.1f} {unit}"


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
