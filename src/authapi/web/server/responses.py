"""Writes responses in fewer steps than uvicorn, with the same bytes and the same checks.

Uvicorn searches the name and the value of each header field for characters that would end it. Most
fields of a response are those of the response before, so what was found is kept for the fields
whose values are few and no secrets.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

_REPEATED: Final = frozenset(
    {
        *(b"cache-control", b"content-language", b"content-security-policy", b"content-type"),
        *(b"cross-origin-resource-policy", b"referrer-policy", b"strict-transport-security"),
        *(b"vary", b"x-content-type-options"),
    }
)
"""The fields whose lines are kept: none identifies a client, and none frames the message."""
_FRAMING: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
"""The fields that decide how the response ends, besides a first and usual `Content-Length`."""
_MAX_KEPT: Final = 256
_MAX_LENGTH: Final = 512
"""Bytes of a value whose line is kept."""

_kept: dict[tuple[bytes, bytes], bytes] = {}
"""The lines of fields that uvicorn would send as they are, by name and value."""


_latest_date: dict[tuple[bytes, bytes], bytes] = {}
"""The line of the last `Date`, which is that of all responses of a second."""


class _Unusual(Exception):
    """Uvicorn decides about this field."""


class ResponseCycle(RequestResponseCycle):
    """A request and its response, which sends a usual response by itself.

    Any other response is sent by uvicorn's methods: one of a server with its access log, one
    without `Content-Length`, to HEAD, or to a client that reads too slowly.
    """

    async def send(self, message: Any) -> None:
        """Sends a message of the application.

        Raises RuntimeError, as uvicorn does, for a body that is not as long as `Content-Length`.
        """
        # In one function: a call costs each response more than most of these lines.
        if self.flow.write_paused or self.disconnected or self.response_complete:
            await super().send(message)
            return
        kind = message["type"]
        if not self.response_started:
            head = None
            if kind == "http.response.start" and not self.access_log:
                head = self._head(message["status"], message.get("headers", ()))
            if head is None:
                await super().send(message)
                return
            self.response_started = True
            self.waiting_for_100_continue = False
            self.transport.write(head)
            return
        if (
            kind != "http.response.body"
            or self.chunked_encoding is not False
            or self.scope["method"] == "HEAD"
        ):
            await super().send(message)
            return
        body = message.get("body", b"")
        missing = self.expected_content_length - len(body)
        if missing < 0:
            raise RuntimeError("Response content longer than Content-Length")
        self.expected_content_length = missing
        self.transport.write(body)
        if message.get("more_body", False):
            return
        if missing:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _head(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """Returns the head of a response; None if uvicorn has to send it."""
        length, kept = -1, _kept
        try:
            lines = [STATUS_LINE[status]]
            lines += [
                kept.get(field) or _latest_date.get(field) or _line(*field)
                for field in self.default_headers
            ]
            for field in fields:
                line = kept.get(field)
                if line is None:
                    name, value = field
                    if name == b"content-length" and length < 0 and value.isdigit():
                        length = int(value)
                        line = b"content-length: %b\r\n" % value
                    else:
                        line = _line(name, value)
                lines.append(line)
        except (_Unusual, KeyError, TypeError):  # an unknown status; a field that is a list
            return None
        if length < 0:
            return None
        self.expected_content_length = length
        self.chunked_encoding = False
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)


def new_cycle(protocol: HttpToolsProtocol, version: str) -> ResponseCycle:
    """Completes the scope of a request that `protocol` has parsed, and returns its cycle.

    As uvicorn does, whose function also starts the request. `version` is that of HTTP.
    """
    parser, scope, root = protocol.parser, protocol.scope, protocol.root_path
    scope["method"] = parser.get_method().decode("ascii")
    if version != "1.1":
        scope["http_version"] = version
    target = httptools.parse_url(protocol.url)
    path = target.path.decode("ascii")
    scope["path"] = root + (unquote(path) if "%" in path else path)
    scope["raw_path"] = root.encode("ascii") + target.path
    scope["query_string"] = target.query or b""
    return ResponseCycle(
        scope=scope,
        transport=protocol.transport,
        flow=protocol.flow,
        logger=protocol.logger,
        access_logger=protocol.access_logger,
        access_log=protocol.access_log,
        default_headers=protocol.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=protocol.expect_100_continue,
        keep_alive=version != "1.0" and parser.should_keep_alive(),
        on_response=protocol.on_response_complete,
    )


def last_response(
    response: Response, fields: Iterable[tuple[bytes, bytes]], *, has_body: bool
) -> bytes:
    """Returns the bytes of a response, after the `fields` of the server, that ends a connection."""
    own = [field for field in response.raw_headers if field[0] != b"connection"]
    headers = [*fields, *own, (b"connection", b"close")]
    lines = b"".join(b"%b: %b\r\n" % field for field in headers)
    body = bytes(response.body) if has_body else b""
    return STATUS_LINE[response.status_code] + lines + b"\r\n" + body


def _line(name: bytes, value: bytes) -> bytes:
    """Returns the line of a field. Raises _Unusual if uvicorn refuses it or it is of the framing.

    Keeps it if its value is one of few.
    """
    lower = name.lower()
    if HEADER_RE.search(lower) or HEADER_VALUE_RE.search(value) or lower in _FRAMING:
        raise _Unusual
    line = b"%b: %b\r\n" % (lower, value)
    if lower == b"date":
        _latest_date.clear()
        _latest_date[name, value] = line
    elif lower in _REPEATED and len(value) <= _MAX_LENGTH and len(_kept) < _MAX_KEPT:
        _kept[name, value] = line
    return line
