"""Pages as answers: in the language of their reader, and with nothing in them that could run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

from starlette.requests import HTTPConnection, Request
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

REFERRER_POLICY = "strict-origin"
"""The origin and no path, so the token in a query is not told.

With `no-referrer`, the default of all other answers, browsers send `Origin: null` with a form
(Fetch, "append a request Origin header"), and over plain http nothing else tells its origin.
"""


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
    """Whether one may go on without the field, at the cost of what is in the account. A second
    form asks for the address then."""


At = Literal["field", "drop"]
"""Which input an error is about: that of the page, or that of its second form."""


@dataclass(frozen=True, slots=True)
class Way:
    """A link that leads on from a refusal."""

    address: str
    label: str
    """The name of its text."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The texts of one language, as one service says them."""

    language: str
    say: Callable[[str], str]
    """The text of a name; the text `other` for a name without one."""
    knows: Callable[[str], bool]
    """Whether a name has a text."""


def wording_for(connection: HTTPConnection) -> Wording:
    """The wording in the language that suits the reader best (RFC 9110, section 12.5.4)."""
    services: Services = context_of(connection).runtime.services
    settings = services.settings
    language = language_of(header(connection, b"accept-language"), fallback=settings.locales[0])
    texts, least = LANGUAGES[language], settings.password_min_length

    def say(name: str) -> str:
        return texts.get(name, texts["other"]).format(least=least)

    return Wording(language, say, texts.__contains__)


def render(
    request: Request,
    page: Page,
    *,
    status: int = 200,
    token: str = "",
    typed: str = "",
    error: str | None = None,
    at: At | None = None,
    usable: bool = True,
    done: str | None = None,
) -> Response:
    """`page` as an answer. `error` and `done` name texts; without `usable`, there is no form."""
    wording = wording_for(request)
    return html(
        wording,
        status,
        title=wording.say(f"{page.name}.title"),
        page=page,
        token=token,
        typed=typed,
        error=None if error is None else wording.say(error),
        at=at,
        usable=usable,
        done=None if done is None else wording.say(done),
        way=Way("forgot", "another" if page.name == "reset" else "to_reset"),
    )


def html(wording: Wording, status: int, *, title: str, **shown: object) -> Response:
    """`page.html` as an answer with the headers of all pages; `shown` are its variables."""
    unsaid: dict[str, object] = {"base": "", "done": None, "usable": False, "reference": None}
    body = _template().render(
        unsaid | shown, title=title, language=wording.language, say=wording.say
    )
    headers = {
        "content-security-policy": CSP,
        "cross-origin-opener-policy": "same-origin",
        "content-language": wording.language,
        "referrer-policy": REFERRER_POLICY,
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
