"""Events as files: CSV for people with a spreadsheet, JSON lines for programs."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from authapi.identity import Event
from authapi.web.schemas import AnyEventOut

_COLUMNS = tuple(AnyEventOut.model_fields)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a formula of a cell, which a spreadsheet would compute: clients choose user agents."""


@dataclass(frozen=True, slots=True)
class Export:
    """One way to write events down."""

    media_type: str
    head: str
    """Goes before all events."""
    write: Callable[[Iterable[Event]], str]


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, dict):
        value = json.dumps(value, separators=(",", ":"))
    text = "" if value is None else str(value)
    # A quote in front makes text of it; whoever needs the very value takes JSON lines.
    return f"'{text}" if text.startswith(_FORMULA) else text


def _as_csv(events: Iterable[Event]) -> str:
    shown = (AnyEventOut.of(event).model_dump(mode="json") for event in events)
    return _csv([_cell(row[name]) for name in _COLUMNS] for row in shown)


def _as_json_lines(events: Iterable[Event]) -> str:
    return "".join(f"{AnyEventOut.of(event).model_dump_json()}\n" for event in events)


EXPORTS: Mapping[str, Export] = {
    # RFC 4180, with its lines ended as it wants them; there is no registered type of the other.
    "csv": Export("text/csv; charset=utf-8; header=present", _csv([_COLUMNS]), _as_csv),
    "jsonl": Export("application/jsonl", "", _as_json_lines),
}
