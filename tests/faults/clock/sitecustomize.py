"""Shifts the clock of a process by FAULT_CLOCK_OFFSET seconds; its folder is on `PYTHONPATH`.

`authapi.clock` is the only module that reads the time, so only its clock is replaced. Unlike
libfaketime this needs no system library, and the log and the Date header stay correct.
"""

import os
from datetime import datetime, timedelta, tzinfo

_offset = timedelta(seconds=float(os.environ.get("FAULT_CLOCK_OFFSET", "0")))


class OffsetClock:
    """Returns the shifted time."""

    @staticmethod
    def now(tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + _offset


if _offset:
    import authapi.clock

    authapi.clock.datetime = OffsetClock  # type: ignore[attr-defined,assignment]  # only now() is used
