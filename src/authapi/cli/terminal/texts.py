"""Values as text, for people, and as JSON, for programs."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from authapi.domain.monitoring.wording import duration_in_words


def printable(text: str) -> str:
    """Replaces the characters of `text` that are not printable: a terminal would interpret them."""
    return "".join(c if c.isprintable() else "?" for c in text)


def as_text(value: object) -> str:
    """Returns a value for people, in one line of printable characters."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, timedelta):
        return duration_in_words(value)
    if isinstance(value, Mapping):
        return printable(" ".join(f"{name}={member}" for name, member in value.items())) or "-"
    if isinstance(value, list | tuple | frozenset):
        return printable(" ".join(sorted(map(str, value)))) or "-"
    return printable(str(value))


def as_json(value: object) -> str:
    """Returns JSON with times as the API writes them."""
    return json.dumps(value, default=_member, indent=2)


def _member(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)
