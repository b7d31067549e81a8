"""The cookie of a login at a provider that waits for an address.

It has the sealed ticket of the login, which authenticates no request.
"""

from datetime import timedelta

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.errors import EmailNeeded
from authapi.strategies.session import cookie_name, cookie_values, set_cookie
from authapi.web.context import context_of

_NAME = "authapi-address-ticket"
_MAX_LENGTH = 3800
"""Characters of a ticket: browsers drop a cookie with more than 4096 bytes."""

Headers = tuple[tuple[str, str], ...]


def keep_ticket(connection: HTTPConnection, needed: EmailNeeded) -> Headers:
    """Returns the header that keeps the ticket of a login, unless it has none that fits."""
    ticket = needed.ticket
    if ticket is None or len(ticket) > _MAX_LENGTH:
        return ()
    return _header(connection, ticket, max(needed.expires_at - now(), timedelta(0)))


def read_ticket(connection: HTTPConnection) -> str | None:
    """Returns the ticket in the cookie; None without a cookie, or with more than one.

    Also None without providers: then logins leave the cookie alone (`discard_ticket`).
    """
    if not context_of(connection).runtime.upstreams:
        return None
    values = cookie_values(connection, _cookie(connection))
    return values[0] if len(values) == 1 and values[0] else None


def discard_ticket(connection: HTTPConnection) -> Headers:
    """Returns the header that deletes the cookie, if the request has one."""
    if not cookie_values(connection, _cookie(connection)):
        return ()
    return _header(connection, "", timedelta(0))


def _header(connection: HTTPConnection, value: str, age: timedelta) -> Headers:
    secure = context_of(connection).runtime.settings.cookie_secure
    cookie = set_cookie(_cookie(connection), value, secure=secure, max_age=age)
    return (("set-cookie", cookie),)


def _cookie(connection: HTTPConnection) -> str:
    return cookie_name(_NAME, secure=context_of(connection).runtime.settings.cookie_secure)
