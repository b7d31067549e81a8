"""The last step of SMTP: the text of a mail goes out, and the server says whether it has it.

From its reply code on, the server is responsible for the mail (RFC 5321, section 4.2.5). What comes
after those three digits changes nothing about that, and is not waited for: more lines, however
many, a line that is malformed, or the end of the connection. A mail that was accepted and is taken
for a failure would be sent again.
"""

import asyncio
import re
from collections.abc import Awaitable

from authapi.errors import DeliveryFailed

GOODBYE = 1.0
"""Seconds that the answer to QUIT is waited for (RFC 5321, section 4.1.1.10)."""
_DOT = re.compile(rb"^\.", re.MULTILINE)
_CODE = re.compile(rb"[2-5][0-9]{2}")


class Handover(asyncio.Protocol):
    """Takes over the connection of an SMTP client once the server has answered DATA with 354."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        loop = asyncio.get_running_loop()
        self._transport = transport
        self._head = bytearray()
        self._replied: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        transport.set_protocol(self)

    async def deliver(self, mail: bytes, *, timeout: float) -> int:  # noqa: ASYNC109
        """Send `mail`, whose lines end with CRLF, and return the code of the reply.

        A line that begins with a period gets another (RFC 5321, section 4.5.2). Raises
        DeliveryFailed where no code arrives within `timeout` seconds, or the connection ends first.
        """
        end = b".\r\n" if mail.endswith(b"\r\n") else b"\r\n.\r\n"
        self._head.clear()
        self._transport.write(_DOT.sub(b"..", mail) + end)
        await _until(self._replied, timeout)
        if _CODE.fullmatch(self._head[:3]):
            return int(self._head[:3])
        if self._head:
            raise DeliveryFailed("the mail server: its reply is malformed")
        reason = "SMTPServerDisconnected" if self._lost.done() else "SMTPReadTimeoutError"
        raise DeliveryFailed(f"the mail server: {reason}")

    async def quit(self, *, timeout: float) -> None:  # noqa: ASYNC109
        """Send QUIT, and wait for the server to end the connection, for a second at most.

        A cancellation only ends the wait: the mail is accepted already, and must not come to be
        sent again.
        """
        if not self._lost.done():
            self._replied = asyncio.get_running_loop().create_future()
            self._head.clear()
            self._transport.write(b"QUIT\r\n")
            try:
                await _until(self._replied, min(timeout, GOODBYE))
            except asyncio.CancelledError:
                return

    def data_received(self, data: bytes) -> None:
        # The fourth octet shows that the three digits are complete; the text of a reply is not
        # for programs (RFC 5321, section 4.2).
        self._head += data[: 4 - len(self._head)]
        if len(self._head) == 4:
            _set(self._replied)

    def eof_received(self) -> bool:
        _set(self._lost)
        _set(self._replied)
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self.eof_received()


async def _until(happened: Awaitable[None], seconds: float) -> None:
    await asyncio.wait([asyncio.ensure_future(happened)], timeout=seconds)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
