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
    """In one line. It ends with the remedy, if there is one."""
    remedy: str | None = None
    """What to do about it."""

    @classmethod
    def advising(cls, check: str, verdict: Verdict, fact: str, remedy: str) -> "Finding":
        """Returns a finding with a remedy."""
        return cls(check, verdict, f"{fact}: {remedy}", remedy)

    @property
    def fact(self) -> str:
        """The message without the remedy."""
        return (
            self.message if self.remedy is None else self.message.removesuffix(f": {self.remedy}")
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of all checks, at one time."""

    findings: Sequence[Finding]
    at: datetime
