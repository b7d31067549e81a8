"""Gives a whole process another clock: on `PYTHONPATH`, with the seconds in FAULT_CLOCK_OFFSET.

It needs no library of the system, and the offset is there before the first import of ours. What is
not Python (SQLite, PostgreSQL) keeps the clock of the machine; authapi asks neither for the time.
"""

import datetime
import os

if offset := os.environ.get("FAULT_CLOCK_OFFSET"):
    import time_machine

    now = datetime.datetime.now(datetime.UTC)
    time_machine.travel(now + datetime.timedelta(seconds=float(offset)), tick=True).start()
