"""The delays between attempts that fail one after the other, everywhere in authapi.

Libraries for this decorate calls. Here, failures are the state of a receiver, of an issuer or of a
row of the outbox, which other calls and other processes read.
"""

from secrets import randbelow
from typing import Final

_FIRST: Final = 1.0
"""Seconds after the first failure."""
_MAX_EXPONENT: Final = 32
"""A long outage would overflow a float otherwise."""
_SPREAD: Final = 0.25
"""The share of a delay that is random. Otherwise all processes that noticed the same outage would
try again at the same moment."""
_STEPS: Final = 1000


def longest_delay(failures: int, *, limit: float) -> float:
    """Returns the bound of the delay after consecutive failures: 1 second, then 2, 4 up to `limit`.

    `failures` is at least 1.
    """
    return min(_FIRST * 2.0 ** min(failures - 1, _MAX_EXPONENT), limit)


def delay_after(failures: int, *, limit: float) -> float:
    """Returns the seconds to wait after consecutive failures: 75 to 100 % of `longest_delay`."""
    return longest_delay(failures, limit=limit) * (1 - _SPREAD * randbelow(_STEPS) / _STEPS)
