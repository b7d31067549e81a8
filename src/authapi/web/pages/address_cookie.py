"""The cookie that keeps the address which was typed, for the next page that asks for it.

It is the address that the person at this browser has typed, or read a mail at. It is not in the
address of a page, because logs and the history of the browser keep those. It authenticates nothing.
"""

import base64
import binascii
from datetime import timedelta

from starlette.requests import HTTPConnection

from authapi.domain.email_address import MAX_LENGTH
from authapi.strategies.session import cookie_name, cookie_values, set_cookie
from authapi.web.context import context_of

_NAME = "authapi-address"
_LIFETIME = timedelta(minutes=15)


def keep_address(connection: HTTPConnection, address: str) -> tuple[tuple[str, str], ...]:
    """Returns the header that keeps `address` for the pages that follow."""
    value = base64.urlsafe_b64encode(address.encode()).decode().rstrip("=")
    return _header(connection, value, _LIFETIME) if address else ()


def forget_address(connection: HTTPConnection) -> tuple[tuple[str, str], ...]:
    """Returns the header that deletes the cookie, if the request has one."""
    if not cookie_values(connection, _cookie(connection)):
        return ()
    return _header(connection, "", timedelta(0))


def kept_address(connection: HTTPConnection) -> str:
    """Returns the address that the cookie has, or an empty text.

    Another person may have written the cookie, so the value is input as any other.
    """
    values = cookie_values(connection, _cookie(connection))
    if len(values) != 1:
        return ""
    padded = values[0] + "=" * (-len(values[0]) % 4)
    try:
        address = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return address if len(address) <= MAX_LENGTH and address.isprintable() else ""


def _header(connection: HTTPConnection, value: str, age: timedelta) -> tuple[tuple[str, str], ...]:
    secure = context_of(connection).runtime.settings.cookie_secure
    cookie = set_cookie(_cookie(connection), value, secure=secure, max_age=age)
    return (("set-cookie", cookie),)


def _cookie(connection: HTTPConnection) -> str:
    return cookie_name(_NAME, secure=context_of(connection).runtime.settings.cookie_secure)
