"""Files of events: CSV for spreadsheets, JSON Lines for programs.

`Download` streams a file while it is generated. Its length is unknown in advance, so HTTP/1.1 sends
it in chunks (RFC 9112, section 7.1). After an error, the server closes the connection without the
last chunk, and the client detects that the file is incomplete (RFC 9112, section 8).
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

from authapi.domain.events import Event
from authapi.errors import InvalidCredential, Unavailable
from authapi.web.schemas.administration import AdminEventOut

_log = logging.getLogger("authapi")

_SEND_TIMEOUT = 30.0
"""Seconds that a client has to receive a part of a file, before its connection is closed."""
_COLUMNS = tuple(AdminEventOut.model_fields)
_FORMULA = re.compile(r"(?:^|[;|\t\r\n])[\s\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r|]")
"""Matches a cell that a spreadsheet would evaluate as a formula. Clients choose their user agent,
so an attacker could place a formula there (CSV injection).

Some spreadsheets use a separator other than the comma; text behind it becomes a cell of its own.
"""


@dataclass(frozen=True, slots=True)
class EventFileFormat:
    """A file format for events."""

    media_type: str
    head: str
    """The text before the first event."""
    write: Callable[[Iterable[Event]], str]
    """Returns the text of some events."""


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, dict):
        value = json.dumps(value, separators=(",", ":"))
    text = "" if value is None else str(value)
    # A leading quote makes a spreadsheet treat the cell as text. JSON Lines has the exact value.
    return f"'{text}" if _FORMULA.search(text) else text


def _as_csv(events: Iterable[Event]) -> str:
    rows = (AdminEventOut.of(event).model_dump(mode="json") for event in events)
    return _csv([_cell(row[name]) for name in _COLUMNS] for row in rows)


def _as_json_lines(events: Iterable[Event]) -> str:
    return "".join(f"{AdminEventOut.of(event).model_dump_json()}\n" for event in events)


EVENT_FILE_FORMATS: Mapping[str, EventFileFormat] = {
    # CSV with CRLF line ends, as RFC 4180 requires. JSON Lines has no registered media type.
    "csv": EventFileFormat("text/csv; charset=utf-8; header=present", _csv([_COLUMNS]), _as_csv),
    "jsonl": EventFileFormat("application/jsonl", "", _as_json_lines),
}


class Download(StreamingResponse):
    """A response that streams a file from its `parts`."""

    def __init__(self, parts: AsyncGenerator[str], *, name: str, media_type: str) -> None:
        headers = {
            "content-type": media_type,
            "content-disposition": f'attachment; filename="{name}"',
        }
        super().__init__(parts, headers=headers)
        self._parts = parts

    async def stream_response(self, send: Send) -> None:
        """Sends the parts, and closes their generator at the end or after an error.

        Raises ClientDisconnect if the client receives nothing for 30 seconds or if its session
        ends, and a subclass of Unavailable if the database does not answer.
        """

        async def bounded(message: Message) -> None:
            try:
                async with asyncio.timeout(_SEND_TIMEOUT):
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
