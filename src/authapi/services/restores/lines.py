"""Reads events from an export of `authapi events export`, or from received webhooks.

A file has JSON lines, of exported events or of the bodies of webhooks, or is a CSV export.
"""

import csv
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO
from uuid import UUID

from authapi.clock import parse_time
from authapi.crypto import strict_json
from authapi.crypto.ids import read_uuid
from authapi.domain.events import EventType
from authapi.errors import ConfigurationError
from authapi.services.webhooks import TEST

_MAX_DEPTH = 25
"""Levels of JSON: the detail of an event may contain values of the application."""
_MAX_LINE = 1024 * 1024
"""Bytes of a line. A file that has no lines is not read into the memory."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """What a line says about an event."""

    id: UUID
    at: datetime
    type: EventType
    user_id: UUID | None
    session_id: UUID | None
    identity_id: UUID | None = None
    """The identity at a provider that was unlinked; None if the event does not name it."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event."""

    number: int
    """The first line of the file is 1."""
    reason: str


def read_events(
    path: Path, *, since: datetime
) -> tuple[Sequence[RecordedEvent], Sequence[BadLine]]:
    """Returns the events of a file from the time `since` on, each once, the oldest first.

    Also returns the lines that cannot be read. A pipe is read until its writer closes it. Blocks.
    Raises ConfigurationError if the file cannot be read, is neither a file nor a pipe, or is a CSV
    file without the columns of an export.
    """
    found: dict[UUID, RecordedEvent] = {}
    bad: list[BadLine] = []
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ConfigurationError(f"cannot read {path}: neither a file nor a pipe")
        with path.open("rb") as file:  # once: what is read from a pipe is gone
            for number, line in _parsed(path, file):
                try:
                    event = _event(line() if callable(line) else line)
                except ValueError as error:
                    bad.append(BadLine(number, str(error)))
                    continue
                if event is not None and event.at >= since:
                    found[event.id] = event
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise ConfigurationError(f"cannot read {path}: {cause}") from None
    return merge_events(found.values()), bad


def merge_events(*groups: Iterable[RecordedEvent]) -> Sequence[RecordedEvent]:
    """Returns the events of all `groups`, each once, the oldest first."""
    found = {event.id: event for event in chain.from_iterable(groups)}
    return sorted(found.values(), key=lambda event: (event.at, event.id))


class _JSONLine:
    """Parses a line when it is called, so that its errors have a number."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __call__(self) -> object:
        if len(self._data) > _MAX_LINE:
            raise ValueError("longer than 1 MiB")
        try:
            return strict_json.loads(self._data, max_depth=_MAX_DEPTH)
        except ValueError:
            raise ValueError("not JSON") from None


def _parsed(path: Path, file: IO[bytes]) -> Iterator[tuple[int, object]]:
    lines = _lines(file)
    first = next(lines, b"")
    is_csv = first.removeprefix(b'"').startswith((b"id,", b'id"'))
    return (_csv_lines if is_csv else _json_lines)(path, chain([first], lines))


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yields the lines with their ends. One that is too long is cut after `_MAX_LINE` + 1 bytes."""
    while line := file.readline(_MAX_LINE + 1):
        rest = line
        while len(rest) > _MAX_LINE and not rest.endswith(b"\n"):
            rest = file.readline(_MAX_LINE + 1)
        yield line


def _json_lines(_: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, object]]:
    for number, data in enumerate(lines, 1):
        if len(data) > _MAX_LINE or data.strip():
            yield number, _JSONLine(data)


def _csv_lines(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, object]]:
    try:
        reader = csv.DictReader(map(_text, lines), strict=True)
        missing = {"id", "at", "type", "user_id", "session_id"} - {*(reader.fieldnames or ())}
        if missing:
            raise ConfigurationError(f"{path}: no column {min(missing)}")
        for row in reader:
            cells: dict[str | None, object] = {**row}
            is_whole = None not in cells and None not in cells.values()
            yield reader.line_num, cells if is_whole else "a row of another length"
    except (csv.Error, UnicodeDecodeError):
        raise ConfigurationError(
            f"{path}: not a CSV file in UTF-8, or cut off, or a line is longer than 1 MiB"
        ) from None


def _text(line: bytes) -> str:
    if len(line) > _MAX_LINE:
        raise csv.Error
    return line.decode("utf-8")


def _event(line: object) -> RecordedEvent | None:
    """Returns the event of a line; None for a test of a webhook. Raises ValueError."""
    if not isinstance(line, Mapping):
        raise ValueError(line if isinstance(line, str) else "not a JSON object")
    data = line.get("data")
    if isinstance(data, Mapping):  # the body of a webhook
        line = {**data, "id": data.get("event_id"), "at": line.get("timestamp")} | {
            "type": line.get("type")
        }
    if line.get("type") == TEST:
        return None
    return RecordedEvent(
        id=_required_id(line, "id"),
        at=_time(line.get("at")),
        type=_type(line.get("type")),
        user_id=_optional_id(line, "user_id"),
        session_id=_optional_id(line, "session_id"),
        identity_id=_identity_id(line.get("detail")),
    )


def _required_id(line: Mapping[str, object], name: str) -> UUID:
    found = read_uuid(line.get(name))
    if found is None:
        raise ValueError(f"{name}: not an id")
    return found


def _optional_id(line: Mapping[str, object], name: str) -> UUID | None:
    return _required_id(line, name) if line.get(name) not in (None, "") else None


def _identity_id(detail: object) -> UUID | None:
    """Returns the identity that a detail names, an object or its text in a cell of a CSV file."""
    if isinstance(detail, str):
        try:
            detail = strict_json.loads(detail.encode(), max_depth=_MAX_DEPTH)
        except ValueError:
            return None
    return read_uuid(detail.get("identity_id")) if isinstance(detail, Mapping) else None


def _time(value: object) -> datetime:
    try:
        return parse_time(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("at: not a time") from None


def _type(value: object) -> EventType:
    try:
        return EventType(value)  # type: ignore[arg-type]  # refuses other values
    except ValueError:
        raise ValueError("type: not an event type of this release") from None
