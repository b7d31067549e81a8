"""SECURITY.md: its tables match the code."""

import re
from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

from authapi.domain.events import REFUSALS, EventType
from authapi.settings import MIN_SECRET_LENGTH, Settings
from authapi.settings.field_types import Rate, Rates

PATH = Path(__file__).parents[1] / "SECURITY.md"
NO_LIMITS = {
    # Numbers that are not limits.
    "port",
    "workers",
    "argon2_memory",
    "argon2_passes",
    "argon2_lanes",
    "last_seen_interval",
}


def tables() -> dict[str, list[list[str]]]:
    """Returns the rows of each table, without the table head, by the heading above it."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in PATH.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            found.setdefault(heading, []).append([cell.strip() for cell in line.split("|")[1:-1]])
    return {heading: rows[2:] for heading, rows in found.items()}


def name_of(cell: str) -> str:
    match = re.fullmatch(r"`([a-z0-9_]+)`", cell)
    assert match, cell
    return match[1]


def limits() -> dict[str, str]:
    """Returns every setting that is a limit, with its default in the notation of the page."""
    found = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        is_rate = isinstance(default, str) and name.startswith("limit_")
        is_number = isinstance(default, int | float | timedelta) and not isinstance(default, bool)
        if name == "hash_concurrency":
            found[name] = "CPUs"
        elif name not in NO_LIMITS and (is_rate or is_number):
            found[name] = written(default)
    return found


def written(value: object) -> str:
    if isinstance(value, timedelta):
        for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
            count, rest = divmod(int(value.total_seconds()), seconds)
            if count and not rest:
                return f"{count} {unit}{'s' if count > 1 else ''}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def test_table_of_limits_matches_the_settings() -> None:
    table = tables()["Limits"]
    assert {name_of(row[0]): row[1] for row in table} == limits()
    assert len(table) == len(limits())
    assert all(row[2] for row in table)


def test_new_kind_of_limit_is_detected() -> None:
    # A rate is a limit because of its type, not only because of its name.
    rates = {
        name
        for name, hint in get_type_hints(Settings, include_extras=True).items()
        if hint in (Rate, Rates)
    }
    assert rates == {name for name in limits() if name.startswith("limit_")}
    assert rates


def test_table_of_events_matches_the_code() -> None:
    table = tables()["Events"]
    assert {name_of(row[0]): row[1] for row in table} == {
        kind.value: "refused" if kind in REFUSALS else "success" for kind in EventType
    }
    assert len(table) == len(EventType)
    assert all(row[2] for row in table)


@pytest.mark.parametrize(
    "words",
    [
        f"m = {Settings.model_fields['argon2_memory'].default} KiB",
        f"t = {Settings.model_fields['argon2_passes'].default}",
        f"p = {Settings.model_fields['argon2_lanes'].default}",
        f"{MIN_SECRET_LENGTH} characters",
        "ES256",
        "HKDF-SHA256",
    ],
)
def test_inventory_names_the_parameters(words: str) -> None:
    assert words in PATH.read_text(encoding="utf-8")


def test_document_makes_no_promises() -> None:
    text = PATH.read_text(encoding="utf-8").lower()
    for words in ("not there yet", "todo", "will be", "being built"):
        assert words not in text
