"""Makes messages from templates: headers, plain text and HTML.

A template is a text file. Its first line is the subject. The HTML is made from the same file: each
paragraph becomes an HTML paragraph, and the link becomes a button. Both parts therefore have the
same content in every language, and an operator replaces one file to change both. If there is a
`.html` file of the same name, it replaces the generated HTML.

Values cannot add headers or paragraphs: line breaks in them become spaces.

The layout has its styles inline by hand: it has twenty lines. A library such as css-inline pays off
for one with a style sheet, for dark colours for instance.
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

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.email_address import stored_email
from authapi.domain.outbox import OutboxEntry
from authapi.errors import ConfigurationError, DeliveryFailed, InvalidInput
from authapi.services.jobs.deliveries import EntryFailed
from authapi.services.mail.kinds import MailKind
from authapi.services.mail.links import link_for
from authapi.settings import Settings
from authapi.settings.values.colours import TEXT_CONTRAST, text_colour, with_contrast

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.runtime import Context
    from jinja2.sandbox import SandboxedEnvironment

TEMPLATES = Path(__file__).parent / "templates"
"""The folder of the templates that are part of the package."""
LIBRARIES = (
    *("jinja2", "jinja2.sandbox", "email.contentmanager", "email.generator"),
    *("authapi.services.mail.compiled_templates", "encodings.unicode_escape"),
    *("babel.dates", "babel.numbers"),
)
"""What `render` imports at its first call, unless it is imported before."""
_SPACES = str.maketrans({"\u202f": " ", "\u00a0": " "})
"""Narrow and fixed spaces, which would make a mail in English need a transfer encoding."""
_SUBJECT = "Subject:"
_POLICY = email.policy.SMTP.clone(max_line_length=200, cte_type="7bit")
"""Any link fits into a line of 200 characters, so English mail needs no transfer encoding."""


class MailRenderer:
    """Renders the entries of the outbox as messages."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        name, address = parseaddr(settings.mail_from)
        self._sender = Address(display_name=name, addr_spec=address)
        self._service = settings.service_name
        self._link_colour = with_contrast(
            settings.brand_colour, ("#ffffff",), TEXT_CONTRAST, darker=True
        )

    def render(self, entry: OutboxEntry, payload: Mapping[str, Any]) -> EmailMessage:
        """The message of an entry. The result is the same for each delivery of the entry.

        Raises DeliveryFailed if the recipient is not a valid address, EntryFailed if the template
        cannot be rendered.
        """
        try:
            domain = stored_email(payload["to"]).canonical.rpartition("@")[2]
            local = payload["to"].rpartition("@")[0]  # the local part as the owner spelled it
        except InvalidInput:
            raise DeliveryFailed("invalid recipient address", permanent=True) from None
        kind = MailKind(entry.purpose)
        try:
            locale, subject, text, html = self._render(kind, payload)
        except ConfigurationError:
            raise EntryFailed(f"the template {kind} cannot be rendered") from None
        message = EmailMessage(policy=_POLICY)
        message["From"] = self._sender
        message["To"] = Address(username=local, domain=domain)
        message["Subject"] = subject
        message["Date"] = format_datetime(entry.created_at.astimezone(UTC))
        # The same for each delivery of an entry, so mail readers can discard duplicates.
        message["Message-ID"] = f"<{entry.id}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: suppresses automatic replies
        message.set_content(text)
        message.add_alternative(html, subtype="html")
        message.set_boundary(f"=={entry.id.hex}==")  # by default random for each delivery
        message["Content-Language"] = locale
        return message

    def check(self) -> None:
        """Renders every template in every language, with and without optional values.

        Raises ConfigurationError, which names the first template that cannot be rendered.
        """
        for locale in self._locales():
            for kind in MailKind:
                payload = example_payload(locale)
                self._render(kind, payload)
                self._render(kind, payload | {"facts": {}, "name": None, "ip": None})

    def _locales(self) -> Iterator[str]:
        yield from self._settings.locales
        own = self._settings.mail_templates
        if own is not None:
            if not own.is_dir():
                raise ConfigurationError(f"AUTHAPI_MAIL_TEMPLATES is not a folder: {own}")
            yield from (path.name for path in sorted(own.iterdir()) if path.is_dir())

    def _render(self, kind: MailKind, payload: Mapping[str, Any]) -> tuple[str, str, str, str]:
        """Locale, subject, text and HTML. Raises ConfigurationError, naming the template."""
        from jinja2 import TemplateSyntaxError  # noqa: PLC0415  # as all of jinja2

        name = f"{kind}.txt"
        try:
            template, locale = self._find(kind, payload["locale"])
            values, name = self._values(kind, payload, locale), str(template.name)
            subject, text = _split(template.render(values))
            values |= {"subject": subject, "paragraphs": _paragraphs(text)}
            html_names = [f"{locale}/{kind}.html", "layout.html"]
            html = self._templates.select_template(html_names).render(values)
        except Exception as error:  # a template of the operator may raise any exception
            if isinstance(error, TemplateSyntaxError):
                name = error.name or name
            problem = f"the mail template {name}: {type(error).__name__}"
            raise ConfigurationError(problem) from error
        return locale, subject, text, html

    def _find(self, kind: MailKind, locale: str | None) -> "tuple[Template, str]":
        from jinja2 import TemplateNotFound  # noqa: PLC0415

        for candidate in locale_fallbacks(locale, self._settings.locales):
            try:
                return self._templates.get_template(f"{candidate}/{kind}.txt"), candidate
            except TemplateNotFound:
                continue
        raise TemplateNotFound(f"{kind}.txt")

    def _values(self, kind: MailKind, payload: Mapping[str, Any], locale: str) -> dict[str, Any]:
        secret, settings = payload["secret"], self._settings
        return {
            "locale": locale,
            "service": self._service,
            "url": settings.base_url,
            "to": payload["to"],
            "name": _line(payload["name"]),
            "link": None if secret is None else link_for(kind, secret, settings, locale=locale),
            "colour": settings.brand_colour,
            "text_colour": text_colour(settings.brand_colour),
            "link_colour": self._link_colour,
            "at": _time(payload["at"]),
            "expires_at": _time(payload["expires_at"]),
            "ip": _line(payload["ip"]),
            "facts": {name: _line(value) for name, value in payload["facts"].items()},
        }

    @cached_property
    def _templates(self) -> "SandboxedEnvironment":
        from jinja2 import FileSystemLoader, StrictUndefined, pass_context  # noqa: PLC0415
        from jinja2.sandbox import SandboxedEnvironment  # noqa: PLC0415

        from authapi.services.mail.compiled_templates import COMPILED_MAILS  # noqa: PLC0415

        own = self._settings.mail_templates
        folders = [TEMPLATES] if own is None else [own, TEMPLATES]
        templates = SandboxedEnvironment(
            loader=FileSystemLoader(folders),
            undefined=StrictUndefined,
            autoescape=lambda name: name is None or not name.endswith(".txt"),
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=COMPILED_MAILS,
        )
        templates.filters["time"] = pass_context(_time_filter)
        return templates


def locale_fallbacks(locale: str | None, locales: tuple[str, ...]) -> Iterator[str]:
    """The locales to try in order, such as `ko-KR`, `ko`, the first of the settings, `en`."""
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
    # The value is text that a user chose. Without line breaks, it can neither end a header nor
    # begin a paragraph.
    if value is None:
        return None
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def time_in_words(at: datetime, language: str) -> str:
    """Returns a time to the minute, in UTC, such as `March 4, 2026, 5:06 AM UTC`.

    A language that Babel does not know, such as that of a folder of the operator, gets
    `2026-03-04 05:06 UTC`.
    """
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415  # few processes send mail
    from babel.dates import format_date, format_time, get_datetime_format  # noqa: PLC0415

    at = at.astimezone(UTC)
    try:
        locale = Locale.parse(language, sep="-")
    except (ValueError, UnknownLocaleError):
        return f"{at:%Y-%m-%d %H:%M} UTC"
    # The time zone stays the same in all languages: a few translate it to an abbreviation that
    # readers do not know.
    day, hour = format_date(at, "long", locale=locale), format_time(at, "short", locale=locale)
    both = str(get_datetime_format("long", locale=locale)).replace("'", "")
    return f"{both.replace('{0}', hour).replace('{1}', day)} UTC".translate(_SPACES)


def _time_filter(context: "Context", value: datetime) -> str:
    return time_in_words(value, context.get("locale", "en"))


def example_payload(locale: str | None, *, to: str = "user@example.com") -> dict[str, Any]:
    """A payload with every value that a template can use."""
    at = now()
    return {
        "to": to,
        "name": "Example User",
        "locale": locale,
        "secret": str(new_id()),
        "expires_at": (at + timedelta(hours=1)).isoformat(),
        "at": at.isoformat(),
        "ip": "192.0.2.1",
        "facts": {"token": "a script", "left": "9", "program": "Firefox", "system": "Windows"},
    }
