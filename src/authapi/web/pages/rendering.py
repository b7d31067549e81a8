"""Pages as answers: in the language of their reader, and with nothing in them that could run."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request
from starlette.responses import Response

from authapi.services import Services
from authapi.strategies.base import header
from authapi.web.context import context_of
from authapi.web.pages.texts import LANGUAGES, language_of

if TYPE_CHECKING:
    from jinja2 import Template

CSP = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""No script at all; the one style is a file of ours, and forms go to us."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page asks for. Its name is the end of its path, and where its texts are."""

    name: str
    field: str | None = None
    label: str = ""
    type: Literal["password", "email"] = "password"
    autocomplete: str = "off"
    hint: str | None = None
    required: bool = True
    needs_token: bool = True
    drops: bool = False
    """Whether one may go on without the field, at the cost of what is in the account."""


def render(
    request: Request,
    page: Page,
    *,
    status: int = 200,
    token: str = "",
    typed: str = "",
    error: str | None = None,
    at_field: bool = False,
    usable: bool = True,
    done: str | None = None,
) -> Response:
    """`page` as an answer. `error` and `done` name texts; without `usable`, there is no form."""
    services: Services = context_of(request).runtime.services
    settings = services.settings
    language = language_of(header(request, b"accept-language"), fallback=settings.locales[0])
    texts, least = LANGUAGES[language], settings.password_min_length

    def say(name: str) -> str:
        return texts.get(name, texts["other"]).format(least=least)

    body = _template().render(
        language=language,
        say=say,
        page=page,
        token=token,
        typed=typed,
        error=None if error is None else say(error),
        at_field=at_field,
        usable=usable,
        done=None if done is None else say(done),
    )
    headers = {
        "content-security-policy": CSP,
        "cross-origin-opener-policy": "same-origin",
        "content-language": language,
    }
    return Response(body, status, headers=headers, media_type="text/html")


def style() -> Response:
    """The style of all pages."""
    return Response(_read("page.css"), headers={"cache-control": "no-cache"}, media_type="text/css")


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  # of no use to most processes

    made = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return made.from_string(_read("page.html"))


@cache
def _read(name: str) -> str:
    return resources.files("authapi.web.pages").joinpath(name).read_text(encoding="utf-8")
