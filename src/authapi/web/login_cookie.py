"""The cookie of a browser in which a login is under way.

It has a random id. A login that waits for a second factor is bound to its hash, so it can go on in
this browser only. The cookie authenticates no request. Each such login gets a new id: another
person may have put the cookie that the browser has into it.
"""

from starlette.requests import HTTPConnection

from authapi.crypto.secrets import is_secret, new_secret
from authapi.settings import Settings
from authapi.strategies.session import cookie_name, cookie_values, set_cookie
from authapi.web.federation.ticket_cookie import discard_ticket


def read_browser_id(connection: HTTPConnection, settings: Settings) -> str | None:
    """Returns the id in the cookie; None if there is no cookie, or more than one."""
    values = cookie_values(connection, _name(settings))
    return values[0] if len(values) == 1 and is_secret(values[0]) else None


def waiting_browser(
    connection: HTTPConnection, settings: Settings, ticket: str | None
) -> str | None:
    """Returns the id by which a login that waits is found; None if it is found by its `ticket`."""
    return read_browser_id(connection, settings) if ticket is None else None


def browser_id(connection: HTTPConnection, settings: Settings) -> str:
    """Returns the id in the cookie, or a new one, for the challenge of a passkey.

    The passkeys of two tabs share it. A planted cookie is of no use: the person who planted it has
    no passkey of the account.
    """
    return read_browser_id(connection, settings) or new_secret()


def browser_cookie(value: str, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Returns the header that keeps the id while a login may be under way."""
    lifetime = settings.login_ticket_lifetime
    cookie = set_cookie(_name(settings), value, secure=settings.cookie_secure, max_age=lifetime)
    return (("set-cookie", cookie),)


def discarded_cookie(connection: HTTPConnection, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Returns the headers that delete what the request has of a login under way.

    They are for this cookie, and for that of a login at a provider that waits for an address:
    another person may use the browser next.
    """
    name, ticket = _name(settings), discard_ticket(connection)
    if not cookie_values(connection, name):
        return ticket
    secure = settings.cookie_secure
    cookie = f"{set_cookie(name, '', secure=secure, max_age=None)}; Max-Age=0"
    return (("set-cookie", cookie), *ticket)


def _name(settings: Settings) -> str:
    return cookie_name("authapi-login", secure=settings.cookie_secure)
