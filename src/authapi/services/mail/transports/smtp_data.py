"""The end of an SMTP mail transaction: sends the mail data after DATA, and reads the reply code.

After a reply code of 2xx, the server is responsible for the mail (RFC 5321, section 4.2.5). The
code alone decides: further lines, a malformed line or the end of the connection after these three
digits must not count as a failure, since the mail would then be sent again. aiosmtplib waits for
the complete reply, so `SMTPDataTransfer` takes over its connection.
"""

import asyncio
import re
from collections.abc import Awaitable

from authapi.errors import DeliveryFailed

QUIT_TIMEOUT = 1.0
"""Seconds to wait for the reply to QUIT (RFC 5321, section 4.1.1.10)."""
_DOT = re.compile(rb"^\.", re.MULTILINE)
_CODE = re.compile(rb"[2-5][0-9]{2}")


class SMTPDataTransfer(asyncio.Protocol):
    """Takes over the connection of an SMTP client once the server has replied to DATA with 354."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        loop = asyncio.get_running_loop()
        self._transport = transport
        self._reply_start = bytearray()
        self._replied: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        transport.set_protocol(self)

    async def send(self, mail: bytes, *, timeout: float) -> int:  # noqa: ASYNC109
        """Sends the mail data `mail`, whose lines end with CRLF. Returns the reply code.

        Lines that begin with a period get a second one (RFC 5321, section 4.5.2). Raises
        DeliveryFailed if no reply code arrives within `timeout` seconds or before the connection
        ends, or if the reply is malformed.
        """
        end = b".\r\n" if mail.endswith(b"\r\n") else b"\r\n.\r\n"
        self._reply_start.clear()
        self._transport.write(_DOT.sub(b"..", mail) + end)
        await _wait_for(self._replied, timeout)
        if _CODE.fullmatch(self._reply_start[:3]):
            return int(self._reply_start[:3])
        if self._reply_start:
            raise DeliveryFailed("the mail server: malformed reply")
        reason = "SMTPServerDisconnected" if self._lost.done() else "SMTPReadTimeoutError"
        raise DeliveryFailed(f"the mail server: {reason}")

    async def quit(self, *, timeout: float) -> None:  # noqa: ASYNC109
        """Sends QUIT and waits for the reply, for at most `timeout` seconds and `QUIT_TIMEOUT`.

        A cancellation ends the wait and raises no error: the server has accepted the mail, and an
        error would cause the mail to be sent again.
        """
        if not self._lost.done():
            self._replied = asyncio.get_running_loop().create_future()
            self._reply_start.clear()
            self._transport.write(b"QUIT\r\n")
            try:
                await _wait_for(self._replied, min(timeout, QUIT_TIMEOUT))
            except asyncio.CancelledError:
                return

    def data_received(self, data: bytes) -> None:
        # The fourth octet shows that the reply code is complete. The text of the reply is for
        # people and is not read (RFC 5321, section 4.2).
        self._reply_start += data[: 4 - len(self._reply_start)]
        if len(self._reply_start) == 4:
            _set(self._replied)

    def eof_received(self) -> bool:
        _set(self._lost)
        _set(self._replied)
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self.eof_received()


async def _wait_for(event: Awaitable[None], seconds: float) -> None:
    await asyncio.wait([asyncio.ensure_future(event)], timeout=seconds)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
