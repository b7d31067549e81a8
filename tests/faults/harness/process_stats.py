"""Memory and open files of a process and its children, read from /proc."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory in bytes, and open files."""

    resident: int
    files: int


def sample(pid: int) -> Sample:
    """Returns the sum of a process and its workers."""
    family = [pid, *_children(pid)]
    return Sample(
        sum(_resident(one) for one in family),
        sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in family),
    )


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def slope(values: Sequence[float], step: float) -> float:
    """Returns the growth a second by least squares, of values that are `step` seconds apart."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    weights = [number - middle for number in range(len(values))]
    numerator = sum(w * (value - mean) for w, value in zip(weights, values, strict=True))
    return numerator / sum(weight**2 for weight in weights) / step
