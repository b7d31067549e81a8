"""How authapi stands to the OWASP ASVS 5.0, level 1 and 2: one row for each requirement.

The rows are in `asvs.toml`. A row is `covered` by tests that send HTTP requests, `not_applicable`
for a reason, or `open`: then it says what is missing. `test_asvs.py` checks the table against the
standard and against the tests; `make asvs` counts it.
"""

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CHAPTERS = ("V2", "V3", "V4", "V6", "V7", "V8", "V9", "V10", "V11", "V13", "V14", "V16")
"""The chapters that the table covers. The others do not apply to a service like this, or will be
added later."""

Status = Literal["covered", "not_applicable", "open"]


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement, and how authapi stands to it."""

    id: str
    level: int
    status: Status
    tests: tuple[str, ...] = ()
    """Tests that prove the requirement, as file::name or file::class::name."""
    note: str = ""
    """Why the requirement does not apply, what is missing, or a remark."""

    @property
    def chapter(self) -> str:
        """Such as V2."""
        return self.id.partition(".")[0]


def required() -> Mapping[str, int]:
    """The requirements of the standard that need a row: id to level."""
    path = Path(__file__).with_name("asvs5.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["req_id"]: int(row["L"])
            for row in csv.DictReader(file)
            if row["chapter_id"] in CHAPTERS and row["L"] in ("1", "2")
        }


def _read_table() -> Sequence[Row]:
    with Path(__file__).with_name("asvs.toml").open("rb") as file:
        entries = tomllib.load(file)["requirement"]
    # A member that Row does not have raises TypeError.
    return tuple(Row(**{**entry, "tests": tuple(entry.get("tests", ()))}) for entry in entries)


TABLE = _read_table()
