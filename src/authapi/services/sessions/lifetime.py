"""The lifetime of a session."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lasts: `absolute` at most, and `idle` without use if it is not None."""

    absolute: timedelta
    idle: timedelta | None = None
    remembered: bool = False
    """Whether the browser keeps the cookie after it is closed."""
