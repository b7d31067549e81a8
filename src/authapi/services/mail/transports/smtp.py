"""Mail by SMTP, over implicit TLS (RFC 8314) or STARTTLS (RFC 3207).

`smtp+plain` is the only scheme without TLS. Error texts contain the reply codes of the server, but
not its reply texts: these may contain an address.
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
from authapi.name_resolution import connect_socket
from authapi.services.jobs.deliveries import EntryFailed
from authapi.services.mail.transports.smtp_data import QUIT_TIMEOUT, SMTPDataTransfer
from authapi.settings import Settings

if TYPE_CHECKING:
    import aiosmtplib

_PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
_START_INPUT = 354
"""The reply to DATA: the server is ready for the mail data (RFC 5321, section 4.1.1.4)."""
_CLOSING = 421
"""The server closes the connection; possible as a reply to any command (RFC 5321, section 3.8)."""


class SMTP:
    """Sends messages to the server of `mail_url`, over one connection each."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError if the extra `mail` is not installed."""
        try:
            import aiosmtplib  # noqa: F401, PLC0415  # an extra
        except ImportError:
            raise ConfigurationError(
                "SMTP mail needs an extra: pip install 'fastapi-authapi[mail]'"
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
        """Reads the trusted certificates. Raises ConfigurationError if that fails."""
        if self._scheme == "smtp+plain" or self._tls is not None:
            return
        try:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        except OSError:  # ssl.SSLError, for an invalid file, is a subclass
            raise ConfigurationError(
                f"AUTHAPI_MAIL_CA_FILE holds no certificates: {self._ca_file}"
            ) from None

    async def send(self, message: EmailMessage) -> None:
        """Returns once the server has accepted `message`.

        Raises EntryFailed if the server rejects the recipient or the message, DeliveryFailed for
        other failures, ConfigurationError if the trusted certificates cannot be read.
        """
        to = message["To"].addresses[0].addr_spec
        # Not every server supports 8BITMIME. The message was encoded for 7 bits when it was made.
        raw = message.as_bytes(policy=email.policy.SMTP.clone(cte_type="7bit"))
        async with self._connected() as server:
            await _greet(server)
            # With the size, the server can reject a message that is too long at once (RFC 1870).
            size = [f"size={len(raw)}"] if server.supports_extension("size") else []
            await server.mail(self._sender, options=size)
            await server.rcpt(to)
            transfer = await _start_data(server)
            code = await transfer.send(raw, timeout=self._timeout)
            if not 200 <= code < 300:
                raise _rejected("the mail", code)
            await transfer.quit(timeout=self._timeout)

    async def check(self) -> str:
        """Connects, starts TLS and authenticates, without sending a message.

        Raises DeliveryFailed if one of these fails, ConfigurationError as `open`.
        """
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
            # The default is the name of this host, which may take a DNS lookup.
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
            raise _rejected("the recipient", error.code) from None
        except aiosmtplib.SMTPDataError as error:
            raise _rejected("the mail", error.code) from None
        except aiosmtplib.SMTPResponseException as error:
            # The configuration is wrong, not the entry: a wrong password, a sender not permitted.
            kind = type(error).__name__.removeprefix("SMTP")
            raise DeliveryFailed(f"the mail server: {kind} ({error.code})") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(f"the mail server: {self._reason(error)}") from None
        finally:
            # `close()` alone would wait for the server to close TLS, which takes 30 seconds if the
            # server does not answer. uvloop's transports are not subclasses of asyncio's.
            if connection is not None:
                cast("asyncio.WriteTransport", connection).abort()
            server.close()

    def _reason(self, error: BaseException | None) -> str:
        name, cause = type(error).__name__, None
        while error is not None:
            if isinstance(error, ssl.SSLCertVerificationError):
                return f"its certificate is not trusted ({error.verify_message.split(',')[0]})"
            if isinstance(error, OSError) and error.strerror:
                cause = error.strerror
            error = error.__cause__ or error.__context__
        server = f"{self._host} on port {self._port}"
        return f"{name}, {server}" if cause is None else f"{name}, {server}: {cause}"

    async def _socket(self) -> socket.socket:
        # aiosmtplib would resolve the name in the default executor, which other work shares.
        import aiosmtplib  # noqa: PLC0415

        server = f"{self._host} on port {self._port}"
        try:
            async with asyncio.timeout(self._timeout):
                return await connect_socket(self._host, self._port)
        except TimeoutError as error:
            raise aiosmtplib.SMTPConnectTimeoutError(f"timed out connecting to {server}") from error
        except OSError as error:
            raise aiosmtplib.SMTPConnectError(f"error connecting to {server}") from error


async def _greet(server: "aiosmtplib.SMTP") -> None:
    import aiosmtplib  # noqa: PLC0415

    if server.is_ehlo_or_helo_needed:
        try:
            await server.ehlo()
        except aiosmtplib.SMTPHeloError:
            await server.helo()


async def _start_data(server: "aiosmtplib.SMTP") -> SMTPDataTransfer:
    import aiosmtplib  # noqa: PLC0415

    response = await server.execute_command(b"DATA")
    if response.code != _START_INPUT:
        raise aiosmtplib.SMTPDataError(response.code, response.message)
    if server.transport is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    return SMTPDataTransfer(cast("asyncio.WriteTransport", server.transport))


async def _quit(server: "aiosmtplib.SMTP", timeout: float) -> None:  # noqa: ASYNC109
    import aiosmtplib  # noqa: PLC0415

    with suppress(aiosmtplib.SMTPException, OSError):
        await server.quit(timeout=min(timeout, QUIT_TIMEOUT))


def _rejected(subject: str, code: int) -> DeliveryFailed:
    kind = DeliveryFailed if code == _CLOSING else EntryFailed
    return kind(f"the mail server refused {subject} ({code})", permanent=code >= 500)
