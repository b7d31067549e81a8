"""CPU time and resident memory of a server process, read from /proc."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(group: int) -> float:
    """Returns the CPU time of all processes in the group, user and kernel."""
    # Fields 14 and 15 of proc(5); the two fields before the state are already removed.
    return sum(int(fields[11]) + int(fields[12]) for fields in _stats(group)) / _TICKS


def exact_cpu_seconds(process: int) -> float:
    """Returns the CPU time of all threads of one process, in nanoseconds of resolution."""
    paths = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9


def exact_cpu_seconds_by_priority(process: int) -> tuple[float, float]:
    """Returns the CPU time of the threads of one process: of normal priority, and of lower ones."""
    normal = lower = 0.0
    for path in Path(f"/proc/{process}/task").iterdir():
        fields = _fields(path / "stat")
        seconds = int((path / "schedstat").read_text().split()[0]) / 1e9
        if int(fields[16]) > 0:  # field 19, the niceness
            lower += seconds
        else:
            normal += seconds
    return normal, lower


def family_cpu_seconds(parent: int) -> float:
    """Returns the CPU time of a process and of its children, also of those that have ended.

    For PostgreSQL, whose processes each have their own group.
    """
    # Fields 14 to 17: user and kernel time of the process, then of its children that have ended.
    total = sum(map(int, _fields(Path(f"/proc/{parent}/stat"))[11:15])) / _TICKS
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has exited
            if int(_fields(path)[1]) == parent:
                total += exact_cpu_seconds(int(path.parent.name))
    return total


def resident_bytes(group: int) -> int:
    """Returns the resident memory of all processes in the group (field 24)."""
    return sum(int(fields[21]) for fields in _stats(group)) * _PAGE


def peak_resident_bytes(group: int) -> int:
    """Returns the sum of the peak resident memory of the processes in the group (VmHWM)."""
    total = 0
    for fields in _stats(group):
        status = Path(f"/proc/{fields[-1]}/status").read_text()
        total += int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return total


def _stats(group: int) -> Iterator[list[str]]:
    # The fields of `stat` of each process from its state on, with its pid at the end.
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has exited
            fields = _fields(path)
            if int(fields[2]) == group:
                yield [*fields, path.parent.name]


def _fields(path: Path) -> list[str]:
    # The name in parentheses may contain any character; fields follow the last one.
    return path.read_text().rpartition(")")[2].split()
