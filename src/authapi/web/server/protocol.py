"""`HTTPProtocol`: uvicorn's HTTP/1.1, bounded, and with one meaning for each byte."""

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from authapi.errors import (
    HeadersTooLarge,
    HTTPVersionNotSupported,
    MalformedRequest,
    Refusal,
    RequestTimeout,
    TargetTooLong,
)
from authapi.web.server.closing import ClosingTransport, HeldFlow
from authapi.web.server.handshake import fault_of
from authapi.web.server.limits import (
    LIMITS_KEY,
    MAX_FIELDS,
    PROTOCOL_KEY,
    ReadingLimits,
    Sender,
    default_limits,
)
from authapi.web.server.resumed import resume

_SLICE: Final = 16384
"""Bytes that the parser is given at a time; what it has read is looked at in between."""
_FIRST_SLICE: Final = 2048
"""The same for the beginning of what arrives: nearly every request, and few of the smallest."""
_PIPELINED_SLICE: Final = 512
"""The same behind an unanswered request."""
_MAX_PIPELINED: Final = 4
"""Requests that wait for the answers before them; what comes after is not parsed meanwhile."""
_FIELD_FRAMING: Final = 4
"""Bytes of a field besides its name and value: a colon, a space and the line end."""
_LINE_FRAMING: Final = 64
"""Bytes of a request line besides its target, generously counted."""
_CHUNK_FRAMING: Final = 8
"""Bytes that frame a chunk of one byte, generously counted."""


class HTTPProtocol(HttpToolsProtocol):
    """One connection. `authapi serve` runs it, and so does `uvicorn --http authapi:HTTPProtocol`.

    It differs from uvicorn's own protocol in this:

    * A request that asks for an upgrade which is not taken is read as if it had not asked
      (RFC 9110, section 7.8): its body stays a body. Only WebSocket is taken.
    * Fields after the end of the head are dropped: a trailer is no header (RFC 9110, 6.5.1).
    * The head, the trailers and the framing of chunks are bounded while they are read, in bytes,
      fields and time. Beyond that the answer is 431, 414 for the target, or 408.
    * Pipelined requests are parsed a few at a time: the rest stays bytes until those are answered.
    * What is refused unread is answered as a problem document, in its turn behind the answers to
      earlier requests, and the connection is closed once the client had time to read it.
    * CONNECT, versions other than 1.0 and 1.1, chunks in HTTP/1.0, and a WebSocket handshake with a
      body or behind an unanswered request are refused.

    The bounds are `max_header_bytes` and `body_timeout` of the application's settings, or their
    defaults where its lifespan does not run.
    """

    transport: ClosingTransport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        limits = app_state.get(LIMITS_KEY)
        self._limits = limits if isinstance(limits, ReadingLimits) else default_limits()
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        """Whether the next byte belongs to a head, and not to a body."""
        self._dropped_fields: list[tuple[bytes, bytes]] = []
        self.headers = self._dropped_fields  # until a request line begins, and for trailers
        self._has_turned = False
        """Whether a head or a body ended in the bytes that were parsed last."""
        self._head_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        """Bytes of the current body that are not its content: chunk sizes and trailers."""
        self._held = b""
        """What was received and is not parsed yet."""
        self._refusal: Refusal | None = None
        """Why nothing more of this connection is read."""
        self._successor: asyncio.Protocol | None = None
        """Who reads the connection after an upgrade."""

    def connection_made(  # type: ignore[override]  # as uvicorn declares it
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self.transport = ClosingTransport(transport, self.loop, self._is_unread)
        self.flow = self._flow = HeldFlow(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        self.transport.lost()

    @property
    def _has_begun(self) -> bool:
        """Whether a request line has begun whose head is not complete."""
        return self.headers is not self._dropped_fields

    # Reading

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._held:
            self._hold(self._held + data)
        elif len(data) <= _FIRST_SLICE:
            self._read(data)
        else:
            self._read_slices(data)

    def _read_slices(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            if len(self.pipeline) >= _MAX_PIPELINED:
                self._hold(data[start:])
                return
            is_behind = self._in_head and self._unanswered() is not None
            size = _PIPELINED_SLICE if is_behind else _SLICE if start else _FIRST_SLICE
            self._read(data[start : start + size])
            start += size

    def _hold(self, data: bytes) -> None:
        self._held = data
        self.flow.pause_reading()
        self._flow.is_held = True

    def _go_on(self) -> None:
        """Parse what is held, now that the requests before it are answered."""
        data, self._held = self._held, b""
        self._flow.is_held = False
        self._unset_keepalive_if_required()
        if data and not self.transport.is_closing():
            self._read_slices(data)
        if not self._held:
            self.flow.resume_reading()

    def _read(self, data: bytes) -> None:
        while data:
            if self._successor is not None:
                self._successor.data_received(data)
                return
            if self._refusal is not None or self.transport.is_closing():
                self.transport.drop(len(data))
                return
            self._has_turned = False
            body_bytes = self._body_bytes
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as pause:
                data = data[pause.args[0] :]
                self._on_upgrade(rest=data)
                continue
            except httptools.HttpParserError as error:
                is_version = "HTTP version" in str(error)
                self._refuse(HTTPVersionNotSupported() if is_version else MalformedRequest())
                return
            if not self._in_head:
                if self._has_turned:
                    self._restart_timer()
                else:
                    self._check_body(len(data) - (self._body_bytes - body_bytes), len(data))
            elif self._has_begun or not self._has_turned:
                self._check_head(len(data))
            return

    def _check_head(self, size: int) -> None:
        # How much of `size` belongs to it is unknown where another request ended on the way.
        self._head_bytes = 0 if self._has_turned else self._head_bytes + size
        if not self._has_begun:
            if self._head_bytes > _LINE_FRAMING:  # of empty lines (RFC 9112, section 2.2)
                self._refuse(MalformedRequest())
            elif self._head_bytes and self._timer is None:
                self._start_timer()
            return
        most, fields, target = self._limits.max_header_bytes, len(self.headers), len(self.url)
        framing = _LINE_FRAMING + _FIELD_FRAMING * fields
        if target > most:
            self._refuse(TargetTooLong())
        elif fields > MAX_FIELDS or self._head_bytes - target - framing > most:
            self._refuse(HeadersTooLarge())
        elif self._timer is None:
            self._start_timer()

    def _check_body(self, framing: int, size: int) -> None:
        self._dropped_fields.clear()
        self._framing_bytes += framing
        most = self._limits.max_header_bytes + _CHUNK_FRAMING * self._body_bytes
        if self._framing_bytes > most:
            self._refuse(HeadersTooLarge())
        elif self.cycle.response_complete:
            self.transport.drop(size)
        else:
            self._restart_timer()

    # Callbacks of the parser

    def on_headers_complete(self) -> None:
        parser = self.parser
        if (
            len(self.url) > self._limits.max_header_bytes
            or len(self.headers) > MAX_FIELDS
            or parser.should_upgrade()
            or parser.get_http_version() != "1.1"
        ):
            self._look_closer()
        self.scope["extensions"] = {PROTOCOL_KEY: {}}
        HttpToolsProtocol.on_headers_complete(self)
        self._in_head = False
        self._has_turned = True
        self._head_bytes = self._body_bytes = self._framing_bytes = 0
        if self._timer is not None:
            self._stop_timer()
        if not parser.should_upgrade():
            # The application has the list of the head; what follows is not for it.
            self.headers = self._dropped_fields

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # llhttp says so of a body that it has not read
        HttpToolsProtocol.on_message_complete(self)
        self._in_head = self._has_turned = True
        if self._timer is not None:
            self._stop_timer()
        if self._dropped_fields:
            self._dropped_fields.clear()
        if self.cycle.keep_alive and not self.parser.should_keep_alive():
            self._end_with_answer()

    def _end_with_answer(self) -> None:
        # A trailer has said so to llhttp, which ignores all that follows: so must the client.
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.transport.close()

    def _look_closer(self) -> None:
        """Stop the parser with _NotRead if the request is refused by its head."""
        refusal = self._fault()
        if refusal is not None:
            self._refuse(refusal)
            raise _NotRead
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1

    def _fault(self) -> Refusal | None:
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            return HTTPVersionNotSupported()
        if self.parser.get_method() == b"CONNECT":
            return MalformedRequest("This is no proxy")
        if len(self.url) > self._limits.max_header_bytes:
            return TargetTooLong()
        if len(self.headers) > MAX_FIELDS:
            return HeadersTooLarge()
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in self.headers):
            return MalformedRequest("HTTP/1.0 has no chunks")  # RFC 9112, section 6.1
        return None

    # Upgrades

    def _should_upgrade(self) -> bool:
        # RFC 6455, section 4.2.1, and RFC 9110, section 7.8, for HTTP/1.0.
        scope = self.scope
        if self.ws_protocol_class is None or scope["method"] != "GET":
            return False
        fields = [value.strip().lower() for name, value in scope["headers"] if name == b"upgrade"]
        return scope["http_version"] == "1.1" and fields == [b"websocket"]

    def _on_upgrade(self, rest: bytes) -> None:
        headers = list(self.scope["headers"])
        if not self._should_upgrade():
            try:
                resume(self, self.scope["http_version"], headers)
            except httptools.HttpParserError:
                self._refuse(MalformedRequest())
            self.headers = self._dropped_fields
            return
        self._in_head = True
        refusal = fault_of(self.url, headers)
        if refusal is None and (self._unanswered() is not None or rest):
            # A client waits for the answer before it sends frames (RFC 6455, section 4.1).
            refusal = MalformedRequest("A WebSocket handshake stands alone")
        if refusal is not None:
            self._refuse(refusal)
            return
        raw = self.transport.raw
        self.transport = raw  # type: ignore[assignment]  # no part of ours in what follows
        self.handle_websocket_upgrade()
        self._successor = raw.get_protocol()  # type: ignore[assignment]  # asyncio: BaseProtocol

    # Refusals

    def _refuse(self, refusal: Refusal) -> None:
        """Read nothing more, and answer that once earlier requests are answered."""
        if self._refusal is not None:
            return
        self._refusal = refusal
        self._stop_timer()
        cycle = self._unanswered()
        if cycle is None:
            if self._in_head:
                self._answer(refusal)
            else:
                self.transport.close()
        elif self._in_head:
            return  # `on_response_complete` answers, after that request
        elif self.pipeline:
            self.pipeline.popleft()  # the request with this body; one before it is being answered
        elif cycle.response_started:
            self.transport.raw.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._answer(refusal)

    def _unanswered(self) -> RequestResponseCycle | None:
        """The latest request, unless its answer is complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return None if cycle is None or cycle.response_complete else cycle

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        HttpToolsProtocol.on_response_complete(self)
        if self._held and not self.pipeline:
            self.loop.call_soon(self._go_on)
        if self._in_head and self._refusal is None:
            return
        if self.transport.is_closing() or not is_last:
            return
        if self._refusal is not None:
            self._answer(self._refusal)
        else:
            self._start_timer()  # for the rest of the body

    def _answer(self, refusal: Refusal) -> None:
        target = self.url if self._has_begun or not self._in_head else b""
        sender = Sender(ip=self.client[0] if self.client else None, target=target)
        response = self._limits.answer(refusal, sender)
        status = HTTPStatus(response.status_code)
        fields = [field for field in response.raw_headers if field[0] != b"connection"]
        headers = [*self.server_state.default_headers, *fields, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % field for field in headers)
        is_head = self._has_begun and self.parser.get_method() == b"HEAD"
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, status.phrase.encode(), lines)
            + (b"" if is_head else bytes(response.body))
        )
        self.transport.close()

    def _is_unread(self) -> bool:
        return self._refusal is not None or not self._in_head or self._has_begun

    # Time

    def _restart_timer(self) -> None:
        self._stop_timer()
        self._start_timer()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._limits.timeout, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        waits_for_us = self._unanswered() is not None and (self._in_head or self.flow.read_paused)
        if waits_for_us:
            self._start_timer()
        elif self._has_begun or self._unanswered() is not None:
            self._refuse(RequestTimeout())
        else:
            self.transport.close()


class _NotRead(Exception):
    """Stops the parser, as the request is refused."""
