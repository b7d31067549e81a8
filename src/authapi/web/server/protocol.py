"""`HTTPProtocol`: uvicorn's HTTP/1.1 protocol with limits and without ambiguous framing."""

import asyncio
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
from authapi.web.server.declined_upgrade import resume
from authapi.web.server.limits import (
    LIMITS_KEY,
    MAX_FIELDS,
    PROTOCOL_KEY,
    ReadingLimits,
    RefusedClient,
    default_limits,
    max_discarded_bytes,
    refusal_of_head,
)
from authapi.web.server.lingering_close import LingeringTransport, PausableFlowControl
from authapi.web.server.responses import last_response, new_cycle
from authapi.web.server.websocket_handshake import check_handshake

_SLICE: Final = 16384
"""Bytes that the parser receives at a time; the limits are checked after each slice."""
_FIRST_SLICE: Final = 2048
"""The first slice of received data: large enough for most requests, small enough to hold few."""
_PIPELINED_SLICE: Final = 512
"""The slice while the response to an earlier request is incomplete."""
_MAX_PIPELINED: Final = 4
"""Parsed requests that wait for earlier responses; further data waits unparsed."""
_FIELD_FRAMING: Final = 4
"""Bytes of a field line besides name and value: a colon, a space and CRLF."""
_LINE_FRAMING: Final = 64
"""Bytes of a request line besides its target (upper bound)."""
_CHUNK_FRAMING: Final = 8
"""Bytes that frame a chunk with one byte of data (upper bound)."""


class HTTPProtocol(HttpToolsProtocol):
    """One connection of `authapi serve` or `uvicorn --http authapi:HTTPProtocol`.

    It differs from uvicorn's protocol as follows:

    * It ignores `Upgrade` except for WebSocket (RFC 9110, section 7.8). The body of such a request
      is parsed as a body.
    * It discards trailer fields instead of treating them as headers (RFC 9110, section 6.5.1).
    * It limits the header section, the trailer section and the chunk framing in bytes, fields and
      time while it reads them. The response is 431, 414 for the request target, or 408.
    * It parses a few pipelined requests at a time. Further data waits for their responses.
    * It answers a refused request with a problem document, after the responses to earlier requests,
      and then closes the connection with a lingering close.
    * It refuses CONNECT, versions other than 1.0 and 1.1, chunked bodies in HTTP/1.0, and a
      WebSocket handshake with a body or before the response to an earlier request.

    The limits are the settings `max_header_bytes` and `body_timeout` of the application, or their
    defaults if its lifespan does not run.
    """

    transport: LingeringTransport

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
        """Whether the next byte belongs to a header section, and not to a body."""
        self._discarded_fields: list[tuple[bytes, bytes]] = []
        self.headers = self._discarded_fields  # before a request line, and for trailers
        self._passed_boundary = False
        """Whether a header section or a body ended in the slice that was parsed last."""
        self._head_bytes = self._body_bytes = 0
        self._framing_bytes = 0
        """Bytes of the current body that are not content: chunk sizes and trailers."""
        self._unparsed = b""
        """Received data that is not parsed yet."""
        self._refusal: Refusal | None = None
        """The reason to stop reading this connection."""
        self._websocket: asyncio.Protocol | None = None
        """The protocol that reads the connection after an upgrade."""

    def connection_made(  # type: ignore[override]  # as uvicorn declares it
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self.transport = LingeringTransport(transport, self.loop, self._is_unread)
        self.flow = self._flow = PausableFlowControl(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        self.transport.release()

    @property
    def _has_begun(self) -> bool:
        """Whether a request line has begun whose header section is incomplete."""
        return self.headers is not self._discarded_fields

    # Reading

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._unparsed:
            self._defer(self._unparsed + data)
        elif len(data) <= _FIRST_SLICE:
            self._parse(data)
        else:
            self._parse_slices(data)

    def _parse_slices(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            if len(self.pipeline) >= _MAX_PIPELINED:
                self._defer(data[start:])
                return
            is_pipelined = self._in_head and self._unanswered() is not None
            size = _PIPELINED_SLICE if is_pipelined else _SLICE if start else _FIRST_SLICE
            self._parse(data[start : start + size])
            start += size

    def _defer(self, data: bytes) -> None:
        self._unparsed = data
        self.flow.pause_reading()
        self._flow.is_paused = True

    def _parse_deferred(self) -> None:
        """Parses the deferred data, after the responses to earlier requests are complete."""
        data, self._unparsed = self._unparsed, b""
        self._flow.is_paused = False
        self._unset_keepalive_if_required()
        if data and not self.transport.is_closing():
            self._parse_slices(data)
        if not self._unparsed:
            self.flow.resume_reading()

    def _parse(self, data: bytes) -> None:
        while data:
            if self._websocket is not None:
                self._websocket.data_received(data)
                return
            transport = self.transport
            # Without calls of methods, as this runs for every request.
            if self._refusal is not None or transport.is_lingering or transport.raw.is_closing():
                transport.discard(len(data))
                return
            self._passed_boundary = False
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
                if self._passed_boundary:
                    self._restart_timer()
                else:
                    self._check_body(len(data) - (self._body_bytes - body_bytes), len(data))
            elif self.headers is not self._discarded_fields or not self._passed_boundary:
                self._check_head(len(data))
            return

    def _check_head(self, size: int) -> None:
        # If another request ended in this slice, its share of `size` is unknown.
        self._head_bytes = 0 if self._passed_boundary else self._head_bytes + size
        if not self._has_begun:
            if self._head_bytes > _LINE_FRAMING:  # empty lines (RFC 9112, section 2.2)
                self._refuse(MalformedRequest())
            elif self._head_bytes and self._timer is None:
                self._start_timer()
            return
        limit, fields, target = self._limits.max_header_bytes, len(self.headers), len(self.url)
        framing = _LINE_FRAMING + _FIELD_FRAMING * fields
        if target > limit:
            self._refuse(TargetTooLong())
        elif fields > MAX_FIELDS or self._head_bytes - target - framing > limit:
            self._refuse(HeadersTooLarge())
        elif self._timer is None:
            self._start_timer()

    def _check_body(self, framing: int, size: int) -> None:
        self._discarded_fields.clear()
        self._framing_bytes += framing
        if self._framing_bytes > self._limits.max_header_bytes + _CHUNK_FRAMING * self._body_bytes:
            self._refuse(HeadersTooLarge())
        elif self.cycle.response_complete:
            self.transport.discard(size, max_discarded_bytes(self.cycle.scope))
        else:
            self._restart_timer()

    # Callbacks of the parser

    def on_headers_complete(self) -> None:
        parser, version = self.parser, self.parser.get_http_version()
        is_upgrade = parser.should_upgrade()
        if (
            len(self.url) > self._limits.max_header_bytes
            or len(self.headers) > MAX_FIELDS
            or is_upgrade
            or version != "1.1"
        ):
            self._check_unusual_head(version)
        self.scope["extensions"] = {PROTOCOL_KEY: {}}
        if is_upgrade or self.limit_concurrency is not None:
            HttpToolsProtocol.on_headers_complete(self)
        else:
            self._begin_cycle(version)
        self._in_head = False
        self._passed_boundary = True
        self._head_bytes = self._body_bytes = self._framing_bytes = 0
        if self.transport.discarded:
            self.transport.begin_request()
        if self._timer is not None:
            self._stop_timer()
        if not is_upgrade:
            # The application has the list of headers. Trailers must not be added to it.
            self.headers = self._discarded_fields

    def _begin_cycle(self, version: str) -> None:
        """Does what uvicorn does for a request, with a `ResponseCycle`."""
        earlier = self._unanswered()
        self.cycle = cycle = new_cycle(self, version)
        if earlier is None:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # with an upgrade, llhttp calls this before the body is read
        HttpToolsProtocol.on_message_complete(self)
        self._in_head = self._passed_boundary = True
        if self._timer is not None:
            self._stop_timer()
        if self._discarded_fields:
            self._discarded_fields.clear()
        if self.cycle.keep_alive and not self.parser.should_keep_alive():
            self._close_after_response()

    def _close_after_response(self) -> None:
        # llhttp has read `Connection: close` in a trailer, and ignores all further data.
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.transport.close()

    def _check_unusual_head(self, version: str) -> None:
        """Stops the parser with _RequestRefused if the header section causes a refusal."""
        refusal = refusal_of_head(
            version, self.parser.get_method(), self.url, self.headers, self._limits.max_header_bytes
        )
        if refusal is not None:
            self._refuse(refusal)
            raise _RequestRefused
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1

    # Upgrades

    def _should_upgrade(self) -> bool:
        # RFC 6455, section 4.2.1; for HTTP/1.0, RFC 9110, section 7.8.
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
            self.headers = self._discarded_fields
            return
        self._in_head = True
        refusal = check_handshake(self.url, headers)
        if refusal is None and (self._unanswered() is not None or rest):
            # A client must wait for the response before it sends data (RFC 6455, section 4.1).
            refusal = MalformedRequest("Send no other data before the WebSocket handshake ends")
        if refusal is not None:
            self._refuse(refusal)
            return
        raw = self.transport.raw
        self.transport = raw  # type: ignore[assignment]  # WebSockets need no lingering close
        self.handle_websocket_upgrade()
        self._websocket = raw.get_protocol()  # type: ignore[assignment]  # asyncio: BaseProtocol

    # Refusals

    def _refuse(self, refusal: Refusal) -> None:
        """Stops reading, and answers with `refusal` after the responses to earlier requests."""
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
            return  # `on_response_complete` answers later
        elif self.pipeline:
            self.pipeline.popleft()  # the request with this body, which waits for an earlier one
        elif cycle.response_started:
            self.transport.raw.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._answer(refusal)

    def _unanswered(self) -> RequestResponseCycle | None:
        """Returns the latest request, or None if its response is complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return None if cycle is None or cycle.response_complete else cycle

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        HttpToolsProtocol.on_response_complete(self)
        if self._unparsed and not self.pipeline:
            self.loop.call_soon(self._parse_deferred)
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
        sender = RefusedClient(ip=self.client[0] if self.client else None, target=target)
        is_head = self._has_begun and self.parser.get_method() == b"HEAD"
        response, fields = self._limits.answer(refusal, sender), self.server_state.default_headers
        self.transport.write(last_response(response, fields, has_body=not is_head))
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
        waits = self._unanswered() is not None and (self._in_head or self.flow.read_paused)
        if waits:  # the client waits for a response, or the application does not read
            self._start_timer()
        elif self._has_begun or self._unanswered() is not None:
            self._refuse(RequestTimeout())
        else:
            self.transport.close()


class _RequestRefused(Exception):
    """Stops the parser after a request was refused."""
