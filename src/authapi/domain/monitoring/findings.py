"""What the checks of the configuration report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    verdict: Verdict
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of all checks, at one time."""

    findings: Sequence[Finding]
    at: datetime
