"""Renders the pages: in the language of the user, and without scripts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from authapi.services import Services
from authapi.strategies.base import read_header
from authapi.web.context import context_of
from authapi.web.pages.texts import LANGUAGES, language_of

if TYPE_CHECKING:
    from jinja2 import Template

CSP = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""No scripts; one stylesheet and forms of the same origin."""

REFERRER_POLICY = "strict-origin"
"""The referrer is the origin without path and query, so the token in the query does not leak.

With `no-referrer`, the policy of all other responses, browsers would send `Origin: null` with a
form (Fetch, "append a request Origin header"). Over plain HTTP, no other header has the origin.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page and its form. `name` is the last segment of its path, and the prefix of its texts."""

    name: str
    field: str | None = None
    label: str = ""
    type: Literal["password", "email"] = "password"
    autocomplete: str = "off"
    hint: str | None = None
    required: bool = True
    needs_token: bool = True
    allows_no_password: bool = False
    """Whether a second form asks for the address instead of the password. That form removes the
    content of the account."""
    offers_reset: bool = False
    """Whether the result has a link to request a new password."""


ErrorField = Literal["field", "address"]
"""The id of the input with an error: in the first form, or in the second."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link on an error page."""

    href: str
    label: str
    """The name of the text."""


@dataclass(frozen=True, slots=True)
class Translation:
    """The texts in one language, with the values of the settings filled in."""

    language: str
    text: Callable[[str], str]
    """Returns the text with this name, or the text `other` if there is none."""
    has_text: Callable[[str], bool]
    """Whether there is a text with this name."""


def translation_for(connection: HTTPConnection) -> Translation:
    """The translation that `Accept-Language` prefers (RFC 9110, section 12.5.4)."""
    services: Services = context_of(connection).runtime.services
    settings = services.settings
    language = language_of(
        read_header(connection, b"accept-language"), fallback=settings.locales[0]
    )
    texts, min_length = LANGUAGES[language], settings.password_min_length

    def text(name: str) -> str:
        return texts.get(name, texts["other"]).format(min_length=min_length)

    return Translation(language, text, texts.__contains__)


def render(
    request: Request,
    page: Page,
    *,
    status: int = 200,
    token: str = "",
    typed: str = "",
    error: str | None = None,
    error_field: ErrorField | None = None,
    shows_form: bool = True,
    done: str | None = None,
) -> Response:
    """The response with `page`. `error` and `done` are names of texts.

    Without `shows_form`, the page has a link to request another mail instead of its form.
    """
    translation = translation_for(request)
    return html(
        translation,
        status,
        title=translation.text(f"{page.name}.title"),
        page=page,
        token=token,
        typed=typed,
        error=None if error is None else translation.text(error),
        error_field=error_field,
        shows_form=shows_form,
        done=None if done is None else translation.text(done),
        link=Link("forgot", "another" if page.name == "reset" else "to_reset"),
    )


def html(translation: Translation, status: int, *, title: str, **variables: object) -> Response:
    """The response with `page.html`, rendered with `variables`, and the headers of all pages."""
    defaults: dict[str, object] = {
        "base": "",
        "done": None,
        "shows_form": False,
        "reference": None,
    }
    body = _template().render(
        defaults | variables,
        title=title,
        language=translation.language,
        text=translation.text,
    )
    headers = {
        "content-security-policy": CSP,
        "cross-origin-opener-policy": "same-origin",
        "content-language": translation.language,
        "referrer-policy": REFERRER_POLICY,
    }
    return Response(body, status, headers=headers, media_type="text/html")


def stylesheet_response() -> Response:
    """The response with the stylesheet of all pages."""
    return Response(_read("page.css"), headers={"cache-control": "no-cache"}, media_type="text/css")


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  # imported on first use: most processes never render a page

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read("page.html"))


@cache
def _read(name: str) -> str:
    return resources.files("authapi.web.pages").joinpath(name).read_text(encoding="utf-8")
