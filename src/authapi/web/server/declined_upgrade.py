"""Continues to parse a request whose upgrade is declined (RFC 9110, section 7.8).

llhttp stops after the header section of a request with `Upgrade`, and would parse the body as the
next request. `resume` gives a new parser the same message framing without `Upgrade`, so that it
parses the body as a body.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import httptools

_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


class Resumable(Protocol):
    """The part of `HTTPProtocol` that `resume` uses: its parser, and the callbacks of a parser."""

    parser: Any

    def on_message_begin(self) -> None: ...

    def on_url(self, url: bytes) -> None: ...

    def on_header(self, name: bytes, value: bytes) -> None: ...

    def on_headers_complete(self) -> None: ...

    def on_body(self, body: bytes) -> None: ...

    def on_message_complete(self) -> None: ...


def resume(protocol: Resumable, version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Gives `protocol` a parser that has read a header section with these `headers`.

    Raises httptools.HttpParserError if the parser rejects them.
    """
    callbacks = _BodyCallbacks(protocol)
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    # Assigned before it is fed: a message without a body completes in `feed_data`, and the
    # callbacks of the protocol read `protocol.parser`.
    protocol.parser = parser
    fields = [b"%b: %b\r\n" % field for field in headers if field[0] in _FRAMING]
    # The method has no effect on the length of a request body (RFC 9112, section 6.3).
    parser.feed_data(b"POST / HTTP/%b\r\n%b\r\n" % (version.encode(), b"".join(fields)))
    callbacks.is_replaying_head = False


class _BodyCallbacks:
    """Forwards parser callbacks to the protocol, except those of the replayed header section."""

    def __init__(self, protocol: Resumable) -> None:
        self._protocol = protocol
        self.is_replaying_head = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self.is_replaying_head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.is_replaying_head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_replaying_head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.is_replaying_head:
            self._protocol.on_headers_complete()
