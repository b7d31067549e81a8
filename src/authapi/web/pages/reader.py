"""The language of the reader of a page, and the cookie that keeps their choice."""

from datetime import timedelta
from typing import Final

from starlette.requests import HTTPConnection

from authapi.strategies.base import read_header
from authapi.strategies.session import cookie_values
from authapi.web.context import context_of
from authapi.web.pages.site import site_of

PARAMETER: Final = "lang"
"""The language, in the query of a page."""
_LINK: Final = "token"
"""Says that a mail has linked to the page. A middleware has redacted its value."""
CHOSEN: Final = "chosen"
"""Says that the reader has chosen the language, in the query of a page that a mail links to: the
link itself has the language of the mail."""
_COOKIE: Final = "authapi_lang"
_COOKIE_LIFETIME = timedelta(days=365)


def language_of(connection: HTTPConnection) -> str:
    """Returns the language of the page for this request, one of those that are offered.

    The choice of the reader comes first, then the language of the account, that of the last choice
    in this browser, that of the mail, and that of the browser. If a gate has found no caller yet,
    the account is unknown.
    """
    languages, identity = site_of(connection).languages, context_of(connection).identity
    named = _named(connection)
    for tag in (
        named if _is_choice(connection) else None,
        None if identity is None else identity.user.locale,
        _kept(connection),
        named,
    ):
        if (found := languages.offered_as(tag)) is not None:
            return found
    return languages.preferred(read_header(connection, b"accept-language"))


def cookie_of_choice(connection: HTTPConnection) -> tuple[tuple[str, str], ...]:
    """Returns the header that keeps the language which the reader has chosen by this request."""
    chosen = named_language(connection)
    if chosen is None or not _is_choice(connection):
        return ()
    secure = context_of(connection).runtime.settings.cookie_secure
    age = int(_COOKIE_LIFETIME.total_seconds())
    cookie = f"{_COOKIE}={chosen}; Path=/; Max-Age={age}; SameSite=Lax"
    return (("set-cookie", f"{cookie}; Secure" if secure else cookie),)


def kept_language(connection: HTTPConnection) -> str | None:
    """Returns the language that the cookie of the browser has; None without a valid one."""
    return site_of(connection).languages.offered_as(_kept(connection))


def named_language(connection: HTTPConnection) -> str | None:
    """Returns the language that the address of this request names; None without a valid one."""
    return site_of(connection).languages.offered_as(_named(connection))


def _is_choice(connection: HTTPConnection) -> bool:
    # A form is sent to an address with the language of its page.
    query = connection.query_params
    return connection.scope["method"] != "POST" and (_LINK not in query or CHOSEN in query)


def _named(connection: HTTPConnection) -> str | None:
    return connection.query_params.get(PARAMETER)


def _kept(connection: HTTPConnection) -> str | None:
    values = cookie_values(connection, _COOKIE)
    return values[0] if len(values) == 1 else None
