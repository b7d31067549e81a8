"""Settings of outgoing messages: mail and webhooks."""

import base64
import binascii
import re
from datetime import timedelta
from email.headerregistry import Address
from email.utils import parseaddr
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from authapi.domain.events import EventType
from authapi.settings.field_types import Duration, FilePath, Names, Rate, Seconds, SecretURL
from authapi.settings.http import EdgeSettings
from authapi.settings.values.normalization import percent_decode
from authapi.settings.values.urls import is_secure, split_url

_SCHEMES = ("smtp", "smtps", "smtp+plain", "folder", "console", "none")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_ESCAPES = "in a password, write @ / ? # as %40 %2F %3F %23"


def _check_mail_url(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value.get_secret_value())
        port = parts.port
    except ValueError:  # its text would repeat the value
        raise ValueError(f"is not a URL: {_ESCAPES}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("must begin with one of " + ", ".join(f"{name}:" for name in _SCHEMES))
    if parts.scheme.startswith("smtp"):
        if not parts.hostname or port == 0:
            raise ValueError(f"must have a host: smtp://user:password@host:587; {_ESCAPES}")
        if parts.query or parts.fragment or parts.path.strip("/"):
            raise ValueError(
                f"must end after host and port: smtp:// is STARTTLS, smtps:// is TLS; {_ESCAPES}"
            )
    if parts.scheme == "folder":
        if not percent_decode(parts.path):
            raise ValueError("must have a path: folder:/path")
        if parts.netloc:
            raise ValueError("must not have a host: folder:/path")
        if "?" in value.get_secret_value() or "#" in value.get_secret_value():
            raise ValueError("must be percent-encoded: write ? in a path as %3F, and # as %23")
    return value


def _check_mail_from(value: str) -> str:
    name, address = parseaddr(value)
    try:
        Address(display_name=name, addr_spec=address)
    except Exception:
        address = ""
    if not address or not value.isprintable() or not address.isascii():
        raise ValueError(
            "must be an e-mail address, or a name and an address: Name <a@example.com>"
        )
    return value


def is_locale(text: str) -> bool:
    """Whether `text` is a language tag such as `ko` or `pt-BR` (RFC 5646)."""
    return len(text) <= 35 and _LOCALE.fullmatch(text) is not None


def _check_locales(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not all(map(is_locale, value)):
        raise ValueError("must be language tags such as en, ko or pt-BR (RFC 5646)")
    return value


def _check_webhook_urls(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        if not _is_webhook_url(text):
            raise ValueError("each must be an https URL, or http on this machine")
    return value


def _is_webhook_url(text: str) -> bool:
    parts = split_url(text)
    return parts is not None and is_secure(parts) and not parts.fragment and text.isascii()


def _check_webhook_events(value: tuple[str, ...]) -> tuple[str, ...]:
    known = {kind.value for kind in EventType}
    if unknown := [name for name in value if name not in known]:
        raise ValueError(f"unknown event {min(unknown)[:40]}; known are {', '.join(sorted(known))}")
    return value


def _check_webhook_secret(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    try:
        text = value.get_secret_value().strip().removeprefix("whsec_")
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64 (Standard Webhooks)")
    return SecretStr(value.get_secret_value().strip())


class MailSettings(EdgeSettings):
    """Settings of mail to users and webhooks to other services."""

    mail_url: Annotated[SecretURL, AfterValidator(_check_mail_url)] = None
    """Mail transport: `smtp://user:password@host:587` (STARTTLS), `smtps://...:465` (TLS),
    `smtp+plain://...` (unencrypted, for development), `folder:/path` (.eml files), `console:`,
    `none:`. Default: in development a folder in the data folder, in production none."""
    mail_from: Annotated[str, AfterValidator(_check_mail_from)] = "authapi <no-reply@localhost>"
    """Sender of mail."""
    mail_ca_file: FilePath | None = None
    """PEM file of the CA certificates for the mail server. Default: those of the system."""
    mail_timeout: Seconds = Field(default=10.0, gt=0, le=300)
    """Seconds for each step of a delivery, of mail and of webhooks."""
    mail_lifetime: Duration = timedelta(days=2)
    """Time for which delivery is retried, of mail and of webhooks."""
    mail_templates: FilePath | None = None
    """Folder with templates that replace built-in ones: `<locale>/<kind>.txt`,
    `<locale>/<kind>.html` and `layout.html`."""
    locales: Annotated[Names, AfterValidator(_check_locales)] = ("en", "ko")
    """Languages that accounts may choose. The first is the default."""
    limit_mails: Rate = "5/hour"
    """Mails to one address that unauthenticated requests can cause, per purpose: password reset,
    confirmation of an address, registration, change of address, and each kind of notice."""

    webhook_urls: Annotated[Names, AfterValidator(_check_webhook_urls)] = ()
    """URLs to which every event is sent."""
    webhook_secret: Annotated[SecretStr | None, AfterValidator(_check_webhook_secret)] = None
    """Key that signs webhooks: `whsec_` and 24 to 64 random bytes in base64."""
    webhook_events: Annotated[Names, AfterValidator(_check_webhook_events)] = ()
    """Types of events to send. Default: all except `login_refused`, `access_refused` and
    `throttled`, which unauthenticated requests can cause."""

    def _check_consistency(self) -> None:
        super()._check_consistency()
        if self.webhook_urls and self.webhook_secret is None:
            raise ValueError("webhook_urls needs webhook_secret")

    def _check_production(self) -> None:
        super()._check_production()
        if self.mail_url is None:
            return
        scheme = urlsplit(self.mail_url.get_secret_value()).scheme
        if scheme == "smtp+plain":
            raise ValueError("production does not send mail unencrypted: use smtp:// or smtps://")
        if scheme == "console":
            raise ValueError("production does not print mail, because output is kept in logs")
        if scheme.startswith("smtp") and parseaddr(self.mail_from)[1].endswith("@localhost"):
            raise ValueError("production needs AUTHAPI_MAIL_FROM to send mail")

    @property
    def mail_transport(self) -> Literal["smtp", "smtps", "smtp+plain", "folder", "console", "none"]:
        """The mail transport. With `none`, features that need mail are disabled."""
        if self.mail_url is None:
            return "folder" if self.env == "development" else "none"
        for name in _SCHEMES:
            if urlsplit(self.mail_url.get_secret_value()).scheme == name:
                return name  # type: ignore[return-value]  # a name of _SCHEMES
        raise AssertionError("validated")

    @property
    def sends_mail(self) -> bool:
        """Whether mail is sent."""
        return self.mail_transport != "none"
