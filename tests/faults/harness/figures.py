"""Collects the measured figures, one line for each test, to print at the end of the run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

SCALE = max(1, min(10, int(os.environ.get("AUTHAPI_FAULT_SCALE", "1"))))
"""From 1, for CI, to 10, for the full size."""


def scaled(least: int, most: int) -> int:
    """Returns `least` at scale 1, `most` at scale 10, and a linear value in between."""
    return least + (most - least) * (SCALE - 1) // 9


@dataclass
class Figures:
    """The lines of the report."""

    lines: dict[str, str] = field(default_factory=dict)

    def report(self, test: str, line: str) -> None:
        """Adds the figures of a test. Its name begins with its number in `docs/reliability.md`."""
        self.lines[test] = line

    def text(self) -> list[str]:
        """Returns all lines, ordered by number."""
        numbers = sorted(self.lines, key=lambda name: (int(name.split()[0]), name))
        return [f"{name}: {self.lines[name]}" for name in numbers]


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value below which `share` of the values lie, or 0.0 without values."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


def spread(values: Sequence[float], scale: float = 1000, digits: int = 1) -> str:
    """Formats p50, p99 and maximum, by default of seconds as milliseconds."""
    three = (percentile(values, 0.5), percentile(values, 0.99), max(values, default=0.0))
    p50, p99, most = (f"{value * scale:.{digits}f}" for value in three)
    return f"p50 {p50}, p99 {p99}, max {most}" + (" ms" if scale == 1000 else "")
