"""What a server process uses, read from /proc: CPU time and resident memory."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(group: int) -> float:
    """CPU time so far of all processes in the group, in user and kernel together."""
    # Fields 14 and 15 of proc(5); the two before the state are cut off already.
    return sum(int(fields[11]) + int(fields[12]) for fields in _stats(group)) / _TICKS


def resident_bytes(group: int) -> int:
    """Memory of all processes in the group that is in RAM now (field 24)."""
    return sum(int(fields[21]) for fields in _stats(group)) * _PAGE


def peak_resident_bytes(group: int) -> int:
    """The most that the processes of the group ever had in RAM (VmHWM), added up."""
    total = 0
    for fields in _stats(group):
        status = Path(f"/proc/{fields[-1]}/status").read_text()
        total += int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return total


def _stats(group: int) -> Iterator[list[str]]:
    # What stands in each process's `stat` from its state on, and its number at the end.
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            # The name, in parentheses, may hold anything; what follows the last one is fields.
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                yield [*fields, path.parent.name]
