"""Mail as it is sent: the text of a template, the same as HTML, and headers that nobody can add to.

A template is the text. Its first line is the subject, its paragraphs become those of the HTML, and
the one that is the link becomes a button; so both say the same in any language, and whoever
replaces one file has replaced both. A `.html` file beside it goes before that.
"""

import email.policy
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.errors import ConfigurationError, DeliveryFailed, InvalidInput
from authapi.services.addresses import parse_email
from authapi.services.background.receivers import EntryFailed
from authapi.services.mail.links import link_of
from authapi.services.mail.occasions import Occasion
from authapi.settings import Settings
from authapi.storage.tables.outbox import Entry

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

SHIPPED = Path(__file__).parent / "templates"
_SUBJECT = "Subject:"
_POLICY = email.policy.SMTP.clone(max_line_length=200, cte_type="7bit")
"""Lines of 200 characters hold any link, so that English mail needs no encoding of its body."""


class Letters:
    """Writes mail."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        name, address = parseaddr(settings.mail_from)
        self._sender = Address(display_name=name, addr_spec=address)
        self._service = name or urlsplit(settings.issuer).hostname or address

    def write(self, entry: Entry, payload: Mapping[str, Any]) -> EmailMessage:
        """The mail that an entry of the outbox asks for; the same each time.

        Raises DeliveryFailed if it is to nobody, EntryFailed if its template cannot be written.
        """
        try:
            local, _, domain = parse_email(payload["to"]).canonical.rpartition("@")
            local = payload["to"].rpartition("@")[0]  # in the letters that its owner wrote it in
        except InvalidInput:
            raise DeliveryFailed("its address is none", permanent=True) from None
        occasion = Occasion(entry.purpose)
        try:
            locale, subject, text, page = self._render(occasion, payload)
        except ConfigurationError:
            raise EntryFailed(f"the template {occasion} cannot be written") from None
        message = EmailMessage(policy=_POLICY)
        message["From"] = self._sender
        message["To"] = Address(username=local, domain=domain)
        message["Subject"] = subject
        message["Date"] = format_datetime(entry.created_at.astimezone(UTC))
        # The same for each delivery of one entry: a reader that knows it shows it once.
        message["Message-ID"] = f"<{entry.id}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer, please
        message.set_content(text)
        message.add_alternative(page, subtype="html")
        message.set_boundary(f"=={entry.id.hex}==")  # else drawn by lot, at each delivery another
        message["Content-Language"] = locale
        return message

    def check(self) -> None:
        """Write every template in every language. Raises ConfigurationError, naming one."""
        for locale in self._locales():
            for occasion in Occasion:
                self._render(occasion, example(locale))
                self._render(occasion, example(locale) | {"facts": {}, "name": None, "ip": None})

    def _locales(self) -> Iterator[str]:
        yield from self._settings.locales
        own = self._settings.mail_templates
        if own is not None:
            if not own.is_dir():
                raise ConfigurationError(f"AUTHAPI_MAIL_TEMPLATES is no folder: {own}")
            yield from (path.name for path in sorted(own.iterdir()) if path.is_dir())

    def _render(self, occasion: Occasion, payload: Mapping[str, Any]) -> tuple[str, str, str, str]:
        """Language, subject, text and HTML. Raises ConfigurationError, naming the template."""
        from jinja2 import TemplateSyntaxError  # noqa: PLC0415  # as all of jinja2

        values, name = self._values(occasion, payload), f"{occasion}.txt"
        try:
            template, locale = self._find(occasion, payload["locale"])
            name = str(template.name)
            subject, text = _split(template.render(values))
            about = {"locale": locale, "subject": subject, "paragraphs": _paragraphs(text)}
            pages = [f"{locale}/{occasion}.html", "layout.html"]
            page = self._templates.select_template(pages).render(values | about)
        except Exception as error:  # a template of somebody's own may raise anything
            if isinstance(error, TemplateSyntaxError):
                name = error.name or name
            problem = f"the mail template {name}: {type(error).__name__}"
            raise ConfigurationError(problem) from error
        return locale, subject, text, page

    def _find(self, occasion: Occasion, locale: str | None) -> "tuple[Template, str]":
        from jinja2 import TemplateNotFound  # noqa: PLC0415

        for found in fallbacks(locale, self._settings.locales):
            try:
                return self._templates.get_template(f"{found}/{occasion}.txt"), found
            except TemplateNotFound:
                continue
        raise TemplateNotFound(f"{occasion}.txt")

    def _values(self, occasion: Occasion, payload: Mapping[str, Any]) -> dict[str, Any]:
        secret = payload["secret"]
        return {
            "service": self._service,
            "url": self._settings.issuer,
            "to": payload["to"],
            "name": _line(payload["name"]),
            "link": None if secret is None else link_of(occasion, secret, self._settings),
            "at": _time(payload["at"]),
            "expires_at": _time(payload["expires_at"]),
            "ip": _line(payload["ip"]),
            "facts": {name: _line(value) for name, value in payload["facts"].items()},
        }

    @cached_property
    def _templates(self) -> "SandboxedEnvironment":
        from jinja2 import FileSystemLoader, StrictUndefined  # noqa: PLC0415
        from jinja2.sandbox import SandboxedEnvironment  # noqa: PLC0415

        own = self._settings.mail_templates
        folders = [SHIPPED] if own is None else [own, SHIPPED]
        templates = SandboxedEnvironment(
            loader=FileSystemLoader(folders),
            undefined=StrictUndefined,
            autoescape=lambda name: name is None or not name.endswith(".txt"),
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        templates.filters["time"] = lambda value: f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return templates


def fallbacks(locale: str | None, locales: tuple[str, ...]) -> Iterator[str]:
    """Where templates are looked for: `ko-KR`, `ko`, the first of the settings, English."""
    for tag in filter(None, (locale, locales[0], "en")):
        parts = tag.split("-")
        yield from ("-".join(parts[:length]) for length in range(len(parts), 0, -1))


def _split(rendered: str) -> tuple[str, str]:
    first, _, text = rendered.lstrip().partition("\n")
    if not first.startswith(_SUBJECT) or not text.strip():
        raise ValueError("a template is a line `Subject: ...`, an empty line and a text")
    return first.removeprefix(_SUBJECT).strip(), re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _line(value: str | None) -> str | None:
    # What somebody wrote stays on its line: it neither ends a header nor begins a paragraph.
    if value is None:
        return None
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def example(locale: str | None, *, to: str = "somebody@example.com") -> dict[str, Any]:
    """What could be queued, with everything that a template may tell."""
    at = now()
    return {
        "to": to,
        "name": "Somebody",
        "locale": locale,
        "secret": str(new_id()),
        "expires_at": (at + timedelta(hours=1)).isoformat(),
        "at": at.isoformat(),
        "ip": "192.0.2.1",
        "facts": {"token": "a script"},
    }
