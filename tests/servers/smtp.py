"""A real SMTP server for tests, with a self-signed certificate and configurable responses."""

import asyncio
import email
import email.policy
import ipaddress
import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.process import free_port

USER, PASSWORD = "authapi", "p@ss/word"
Security = Literal["starttls", "tls", "plain"]


@dataclass(frozen=True)
class Certificate:
    """The files of a self-signed certificate and its key."""

    path: Path
    key: Path


def new_certificate(folder: Path, *names: str) -> Certificate:
    """Creates a certificate for `names`, which are hosts or addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests of authapi")])
    at = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(folder / f"{names[0]}.pem", folder / f"{names[0]}.key")
    found.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass
class SMTPServer:
    """A server on a port that stays the same across `stop` and `start`."""

    certificate: Certificate
    security: Security = "starttls"
    needs_login: bool = False
    port: int = field(default_factory=free_port)
    envelopes: list[tuple[str, Sequence[str], EmailMessage]] = field(default_factory=list)
    """Received messages: sender, recipients, mail."""
    refused: dict[str, str] = field(default_factory=dict)
    """Responses instead of "250" to a recipient, to `DATA` or to `MAIL`."""
    dawdles: float = 0.0
    """Seconds before each mail is accepted."""
    attempts: int = 0
    """The number of recipients, including rejected ones."""
    _controller: "_Listening | None" = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The value for AUTHAPI_MAIL_URL."""
        scheme = {"starttls": "smtp", "tls": "smtps", "plain": "smtp+plain"}[self.security]
        login = f"{USER}:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@"
        return f"{scheme}://{login if self.needs_login else ''}127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[EmailMessage]:
        """Returns the received mails."""
        return [message for _, _, message in self.envelopes]

    def start(self) -> None:
        """Starts listening, and returns when the server is ready."""
        if self._controller is not None:
            return
        options: dict[str, Any] = {}
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.certificate.path, self.certificate.key)
        if self.security == "starttls":
            options |= {"tls_context": tls, "require_starttls": True}
        elif self.security == "tls":
            options |= {"ssl_context": tls}
        if self.needs_login:
            options |= {"auth_required": True, "authenticator": _authenticate}
            options |= {"auth_require_tls": self.security == "starttls"}
            # aiosmtpd does not detect implicit TLS, and warns at each connection.
            warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS", UserWarning)
        self._controller = _Listening(self, hostname="127.0.0.1", port=self.port, **options)
        self._controller.start()

    def stop(self) -> None:
        """Stops listening, and closes all connections."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_MAIL(  # noqa: N802  # the name that aiosmtpd calls
        self, _: object, __: object, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Handles MAIL."""
        if answer := self.refused.get("MAIL"):
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _: object, __: object, envelope: Any, address: str, ___: object
    ) -> str:
        """Handles RCPT."""
        self.attempts += 1
        if answer := self.refused.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: object, __: object, envelope: Any) -> str:  # noqa: N802
        """Handles DATA."""
        if answer := self.refused.get("DATA"):
            return answer
        await asyncio.sleep(self.dawdles)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos, message))
        return "250 OK"


class _Listening(Controller):
    """A controller whose `stop` also closes all connections."""

    def factory(self) -> Any:
        found = super().factory()  # type: ignore[no-untyped-call]  # aiosmtpd has few types
        self.__dict__.setdefault("connections", []).append(found)
        return found

    def stop(self, no_assert: bool = False) -> None:
        self.loop.call_soon_threadsafe(self._close_connections)
        super().stop(no_assert)

    def _close_connections(self) -> None:
        for connection in self.__dict__.get("connections", ()):
            if connection.transport is not None:
                connection.transport.abort()


def _authenticate(*about: Any) -> AuthResult:
    found = about[-1]
    good = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=found == good, handled=False)
