"""Mail by SMTP, in TLS: from the first byte (RFC 8314) or after STARTTLS (RFC 3207), never without.

Whatever the server says, only its code is repeated: its text may hold an address.
"""

import asyncio
import email.policy
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from email.utils import parseaddr
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.lookups import connected_socket
from authapi.services.background.receivers import EntryFailed
from authapi.services.mail.transports.handover import GOODBYE, Handover
from authapi.settings import Settings

if TYPE_CHECKING:
    import aiosmtplib

_PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
_START_INPUT = 354
"""The server waits for the mail (RFC 5321, section 4.1.1.4)."""
_CLOSING = 421
"""The server closes the connection, in place of any answer (RFC 5321, section 3.8)."""


class SMTP:
    """Hands mail to the server of `mail_url`, over a connection for each."""

    def __init__(self, settings: Settings) -> None:
        try:
            import aiosmtplib  # noqa: F401, PLC0415  # an extra
        except ImportError:
            raise ConfigurationError(
                "mail by SMTP needs the extra: pip install 'fastapi-authapi[mail]'"
            ) from None
        assert settings.mail_url is not None  # noqa: S101  # without it, mail goes elsewhere
        parts = urlsplit(settings.mail_url.get_secret_value())
        self._scheme = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._user = unquote(parts.username or "") or None
        self._password = unquote(parts.password or "")
        self._sender = parseaddr(settings.mail_from)[1]
        self._timeout = settings.mail_timeout
        self._ca_file = settings.mail_ca_file
        self._tls: ssl.SSLContext | None = None

    def open(self) -> None:
        """Read the certificates to trust. Raises ConfigurationError if they cannot be."""
        if self._scheme == "smtp+plain" or self._tls is not None:
            return
        try:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        except OSError:  # of which an error in the file is one
            raise ConfigurationError(
                f"AUTHAPI_MAIL_CA_FILE holds no certificates: {self._ca_file}"
            ) from None

    async def send(self, message: EmailMessage) -> None:
        """Return once the server has taken it."""
        to = message["To"].addresses[0].addr_spec
        # Text of 8 bits is not everywhere passed on, and was encoded when it was written.
        raw = message.as_bytes(policy=email.policy.SMTP.clone(cte_type="7bit"))
        async with self._connected() as server:
            await _greet(server)
            # RFC 1870, section 3: the server may refuse what is too long before it is sent.
            size = [f"size={len(raw)}"] if server.supports_extension("size") else []
            await server.mail(self._sender, options=size)
            await server.rcpt(to)
            handover = await _begin_data(server)
            code = await handover.deliver(raw, timeout=self._timeout)
            if not 200 <= code < 300:
                raise _refused("the mail", code)
            await handover.quit(timeout=self._timeout)

    async def check(self) -> str:
        """Connect, encrypt and log in, without sending anything."""
        async with self._connected() as server:
            await _quit(server, self._timeout)
            return f"{self._host}:{self._port} answers"

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["aiosmtplib.SMTP"]:
        import aiosmtplib  # noqa: PLC0415

        self.open()
        options: dict[str, Any] = {} if self._tls is None else {"tls_context": self._tls}
        server = aiosmtplib.SMTP(
            hostname=self._host,
            username=self._user,
            password=self._password if self._user else None,
            timeout=self._timeout,
            # As finding out what this machine is called may take as long as DNS does.
            local_hostname=self._sender.rpartition("@")[2],
            use_tls=self._scheme == "smtps",
            start_tls=self._scheme == "smtp",
            **options,
        )
        connection: asyncio.BaseTransport | None = None
        try:
            await server.connect(sock=await self._socket())
            connection = server.transport
            yield server
        except aiosmtplib.SMTPRecipientRefused as error:
            raise _refused("the recipient", error.code) from None
        except aiosmtplib.SMTPDataError as error:
            raise _refused("the mail", error.code) from None
        except aiosmtplib.SMTPResponseException as error:
            # Ours to mend, not the recipient's fault: a wrong password, a sender that may not be.
            kind = type(error).__name__.removeprefix("SMTP")
            raise DeliveryFailed(f"the mail server: {kind} ({error.code})") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(f"the mail server: {_reason(error)}") from None
        finally:
            # Only closed, it would wait for the end of TLS from the other side, which takes half a
            # minute where that is silent. uvloop's transports are no subclasses of asyncio's.
            if connection is not None:
                cast("asyncio.WriteTransport", connection).abort()
            server.close()

    async def _socket(self) -> socket.socket:
        # aiosmtplib would look the name up in the threads that everything else shares.
        import aiosmtplib  # noqa: PLC0415

        at = f"{self._host} on port {self._port}"
        try:
            async with asyncio.timeout(self._timeout):
                return await connected_socket(self._host, self._port)
        except TimeoutError as error:
            raise aiosmtplib.SMTPConnectTimeoutError(f"timed out connecting to {at}") from error
        except OSError as error:
            raise aiosmtplib.SMTPConnectError(f"error connecting to {at}") from error


async def _greet(server: "aiosmtplib.SMTP") -> None:
    import aiosmtplib  # noqa: PLC0415

    if server.is_ehlo_or_helo_needed:
        try:
            await server.ehlo()
        except aiosmtplib.SMTPHeloError:
            await server.helo()


async def _begin_data(server: "aiosmtplib.SMTP") -> Handover:
    import aiosmtplib  # noqa: PLC0415

    response = await server.execute_command(b"DATA")
    if response.code != _START_INPUT:
        raise aiosmtplib.SMTPDataError(response.code, response.message)
    if server.transport is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    return Handover(cast("asyncio.WriteTransport", server.transport))


async def _quit(server: "aiosmtplib.SMTP", timeout: float) -> None:  # noqa: ASYNC109
    import aiosmtplib  # noqa: PLC0415

    with suppress(aiosmtplib.SMTPException, OSError):
        await server.quit(timeout=min(timeout, GOODBYE))


def _refused(what: str, code: int) -> DeliveryFailed:
    kind = DeliveryFailed if code == _CLOSING else EntryFailed
    return kind(f"the mail server refused {what} ({code})", permanent=code >= 500)


def _reason(error: BaseException | None) -> str:
    named = type(error).__name__
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message.split(',')[0]})"
        error = error.__cause__ or error.__context__
    return named
