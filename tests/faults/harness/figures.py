"""What was measured: one line a test, all of them at the end of the run, nothing written down."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

SCALE = max(1, min(10, int(os.environ.get("AUTHAPI_FAULT_SCALE", "1"))))
"""1 for CI, 10 for everything."""


def scaled(least: int, most: int) -> int:
    """So many at scale 1, so many at scale 10, in proportion between."""
    return least + (most - least) * (SCALE - 1) // 9


@dataclass
class Figures:
    """Collects the lines."""

    lines: dict[str, str] = field(default_factory=dict)

    def report(self, test: str, line: str) -> None:
        """The figures of a test, under the number it has in `docs/reliability.md`."""
        self.lines[test] = line

    def text(self) -> list[str]:
        """All lines, by number."""
        numbers = sorted(self.lines, key=lambda name: (int(name.split()[0]), name))
        return [f"{name}: {self.lines[name]}" for name in numbers]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies; 0.0 of none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


def spread(values: Sequence[float], scale: float = 1000, digits: int = 1) -> str:
    """p50, p99 and maximum, by default of seconds in milliseconds."""
    three = (percentile(values, 0.5), percentile(values, 0.99), max(values, default=0.0))
    p50, p99, most = (f"{value * scale:.{digits}f}" for value in three)
    return f"p50 {p50}, p99 {p99}, max {most}" + (" ms" if scale == 1000 else "")
