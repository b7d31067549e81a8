"""Gives a whole process another clock: on `PYTHONPATH`, with the seconds in FAULT_CLOCK_OFFSET.

`authapi.clock` is the one place that reads the time, so its clock is the one to move. It needs no
library of the system, which libfaketime would; the log and the Date header stay right.
"""

import os
from datetime import datetime, timedelta, tzinfo

_offset = timedelta(seconds=float(os.environ.get("FAULT_CLOCK_OFFSET", "0")))


class Moved:
    """Tells another time."""

    @staticmethod
    def now(tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + _offset


if _offset:
    import authapi.clock

    authapi.clock.datetime = Moved  # type: ignore[attr-defined,assignment]  # only now() is used
