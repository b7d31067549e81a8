"""Reads parts of JSON documents: numbers that are identifiers, and members of objects."""

from collections.abc import Mapping
from typing import Any


def digits(value: object) -> str:
    """Returns a positive whole number as text: another parser may round a long one.

    Raises ValueError for any other value, also for the number as a text.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("not a positive whole number")
    return str(value)


def members(value: object) -> Mapping[str, Any]:
    """Returns the members of a JSON object; none for any other value."""
    return value if isinstance(value, dict) else {}
