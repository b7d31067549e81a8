"""Reading on after an upgrade that is not taken (RFC 9110, section 7.8).

llhttp stops at the end of a head that asks for another protocol, and would take the body for the
next request. `resume` gives another parser the same framing without the `Upgrade` field, so that it
reads the body as a body.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    from authapi.web.server.protocol import HTTPProtocol

_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


def resume(protocol: "HTTPProtocol", version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Give `protocol` a parser that stands behind a head with these `headers`.

    Raises httptools.HttpParserError if the parser does not accept the head.
    """
    callbacks = _AfterHead(protocol)
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    # Before it is fed: without a body the message is complete at once, and the protocol asks it.
    protocol.parser = parser
    fields = [b"%b: %b\r\n" % field for field in headers if field[0] in _FRAMING]
    # The method makes no difference to the length of a body (RFC 9112, section 6.3).
    parser.feed_data(b"POST / HTTP/%b\r\n%b\r\n" % (version.encode(), b"".join(fields)))
    callbacks.is_ahead = False


class _AfterHead:
    """Passes the callbacks of a parser on, but for those of the head that it is given again."""

    def __init__(self, protocol: "HTTPProtocol") -> None:
        self._protocol = protocol
        self.is_ahead = True
        """Whether the head is still being read again."""
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self.is_ahead:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.is_ahead:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_ahead:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.is_ahead:
            self._protocol.on_headers_complete()
