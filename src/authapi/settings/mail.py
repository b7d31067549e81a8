"""The settings of what is sent: mail, and webhooks."""

import base64
import binascii
import re
from datetime import timedelta
from email.headerregistry import Address
from email.utils import parseaddr
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from authapi.identity import EventType
from authapi.settings.edge import EdgeSettings
from authapi.settings.fields import FilePath, Lifetime, Names, Rate, Seconds, SecretURL
from authapi.settings.texts import decoded

_SCHEMES = ("smtp", "smtps", "smtp+plain", "folder", "console", "none")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_ESCAPES = "in a password, @ / ? # are written %40 %2F %3F %23"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _mail_url(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value.get_secret_value())
        port = parts.port
    except ValueError:  # whose text repeats the value
        raise ValueError(f"is no URL: {_ESCAPES}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("must begin with one of " + ", ".join(f"{name}:" for name in _SCHEMES))
    if parts.scheme.startswith("smtp"):
        if not parts.hostname or port == 0:
            raise ValueError(f"must name a host: smtp://user:password@host:587; {_ESCAPES}")
        if parts.query or parts.fragment or parts.path.strip("/"):
            raise ValueError(
                f"must end after host and port: smtp:// is STARTTLS, smtps:// is TLS; {_ESCAPES}"
            )
    if parts.scheme == "folder":
        if not decoded(parts.path):
            raise ValueError("must name a folder: folder:/path")
        if parts.netloc:
            raise ValueError("must name a folder without a host: folder:/path")
        if "?" in value.get_secret_value() or "#" in value.get_secret_value():
            raise ValueError("must be percent-encoded: ? in a path is %3F, and # is %23")
    return value


def _mail_from(value: str) -> str:
    name, address = parseaddr(value)
    try:
        Address(display_name=name, addr_spec=address)
    except Exception:
        address = ""
    if not address or not value.isprintable() or not address.isascii():
        raise ValueError("must be an address, or a name and an address: Name <a@example.com>")
    return value


def is_locale(text: str) -> bool:
    """Whether `text` is a language tag as we write them: `ko`, `pt-BR` (RFC 5646)."""
    return len(text) <= 35 and _LOCALE.fullmatch(text) is not None


def _locales(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not all(map(is_locale, value)):
        raise ValueError("must be language tags such as en, ko or pt-BR (RFC 5646)")
    return value


def _webhook_urls(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        if not _is_target(text):
            raise ValueError("each must be an https URL, or http on this machine")
    return value


def _is_target(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    secure = local or (parts.scheme == "https" and bool(parts.hostname))
    return secure and "@" not in parts.netloc and not parts.fragment and text.isascii()


def _webhook_events(value: tuple[str, ...]) -> tuple[str, ...]:
    known = {kind.value for kind in EventType}
    if unknown := [name for name in value if name not in known]:
        raise ValueError(
            f"there is no event {min(unknown)[:40]}; there are {', '.join(sorted(known))}"
        )
    return value


def _webhook_secret(value: SecretStr | None) -> SecretStr | None:
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
    """How people and other services are told of what happens."""

    mail_url: Annotated[SecretURL, AfterValidator(_mail_url)] = None
    """Where mail goes: `smtp://user:password@host:587` (STARTTLS), `smtps://...:465` (TLS),
    `smtp+plain://...` (neither, for development), `folder:/path` (.eml files), `console:`, `none:`.
    By default, in development a folder in the data folder; in production nowhere."""
    mail_from: Annotated[str, AfterValidator(_mail_from)] = "authapi <no-reply@localhost>"
    """Who mail comes from."""
    mail_ca_file: FilePath | None = None
    """Certificates to trust of the mail server, in PEM; by default those of the system."""
    mail_timeout: Seconds = Field(default=10.0, gt=0, le=300)
    """Seconds that each step of a delivery may take, of mail and of webhooks."""
    mail_lifetime: Lifetime = timedelta(days=2)
    """For so long delivery is tried, of mail and of webhooks."""
    mail_templates: FilePath | None = None
    """A folder with templates that go before those shipped: `<locale>/<occasion>.txt`, `.html`,
    and `layout.html`."""
    locales: Annotated[Names, AfterValidator(_locales)] = ("en", "ko")
    """Languages that accounts may choose; the first is that of whoever has chosen none."""
    limit_mails: Rate = "5/hour"
    """Mails that strangers may cause to one address, for each purpose: a password reset, the
    confirmation of an address, a registration, a change of address, and each kind of notice."""

    webhook_urls: Annotated[Names, AfterValidator(_webhook_urls)] = ()
    """Where events are sent to, each to all of them."""
    webhook_secret: Annotated[SecretStr | None, AfterValidator(_webhook_secret)] = None
    """What they are signed with: `whsec_` and 24 to 64 random bytes in base64."""
    webhook_events: Annotated[Names, AfterValidator(_webhook_events)] = ()
    """Types of events to send; by default all but `login_refused`, `access_refused` and
    `throttled`, which strangers cause."""

    def _fit_together(self) -> None:
        super()._fit_together()
        if self.webhook_urls and self.webhook_secret is None:
            raise ValueError("webhook_urls needs webhook_secret")

    def _fit_for_production(self) -> None:
        super()._fit_for_production()
        if self.mail_url is None:
            return
        scheme = urlsplit(self.mail_url.get_secret_value()).scheme
        if scheme == "smtp+plain":
            raise ValueError("production does not send mail in the clear: smtp:// or smtps://")
        if scheme == "console":
            raise ValueError("production does not print mail: what is printed is kept in logs")
        if scheme.startswith("smtp") and parseaddr(self.mail_from)[1].endswith("@localhost"):
            raise ValueError("production needs AUTHAPI_MAIL_FROM to send mail")

    @property
    def mail_transport(self) -> Literal["smtp", "smtps", "smtp+plain", "folder", "console", "none"]:
        """How mail leaves; `none` where it does not, so that there are no flows that need it."""
        if self.mail_url is None:
            return "folder" if self.env == "development" else "none"
        for name in _SCHEMES:
            if urlsplit(self.mail_url.get_secret_value()).scheme == name:
                return name  # type: ignore[return-value]  # one of them
        raise AssertionError("validated")

    @property
    def sends_mail(self) -> bool:
        """Whether any mail leaves."""
        return self.mail_transport != "none"
