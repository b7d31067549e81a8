"""Events as files: CSV for people with a spreadsheet, JSON lines for programs.

`Download` sends a file while it is made. It has no length in advance, so HTTP/1.1 sends it in
chunks (RFC 9112, section 7.1). After an error the connection is closed without the last chunk, and
the client knows that the file is not complete (RFC 9112, section 8).
"""

import asyncio
import csv
import io
import json
import logging
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from authapi.errors import InvalidCredential, Unavailable
from authapi.identity import Event
from authapi.web.schemas import AnyEventOut

_log = logging.getLogger("authapi")

_STALLED_AFTER = 30.0
"""Seconds in which the client has to take a part of a file, before its connection is closed."""
_COLUMNS = tuple(AnyEventOut.model_fields)
_FORMULA = re.compile(r"(?:^|[;|\t\r\n])[\s\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r|]")
"""What makes a formula of a cell, which a spreadsheet would compute: clients choose user agents.

Where a spreadsheet takes another list separator than the comma, it begins a cell behind that.
"""


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
    return f"'{text}" if _FORMULA.search(text) else text


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


class Download(StreamingResponse):
    """A file whose `parts` are sent as they are made."""

    def __init__(self, parts: AsyncGenerator[str], *, name: str, media_type: str) -> None:
        headers = {
            "content-type": media_type,
            "content-disposition": f'attachment; filename="{name}"',
        }
        super().__init__(parts, headers=headers)
        self._parts = parts

    async def stream_response(self, send: Send) -> None:
        """Send it.

        Raises ClientDisconnect if the client takes nothing for too long, or may not read on.

        The parts are closed at the end, when the client goes, and after an error.
        """

        async def bounded(message: Message) -> None:
            try:
                async with asyncio.timeout(_STALLED_AFTER):
                    await send(message)
            except TimeoutError:
                raise ClientDisconnect from None

        async with aclosing(self._parts):
            try:
                await super().stream_response(bounded)
            except Unavailable as error:
                _log.error("export ended early", extra={"code": error.code})
                raise
            except InvalidCredential as error:
                _log.info("export ended early", extra={"code": error.code})
                raise ClientDisconnect from None  # the server closes the connection
