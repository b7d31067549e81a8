"""Cookies that only this host can set: read strictly, and written with the safe attributes."""

import math
from datetime import timedelta

from starlette.requests import HTTPConnection


def cookie_name(name: str, *, secure: bool) -> str:
    """Returns the name of a cookie. Over TLS, browsers accept it only from this host."""
    return f"__Host-{name}" if secure else name


def cookie_values(connection: HTTPConnection, name: str) -> list[str]:
    """Returns the values of all cookies with this name.

    Common cookie parsers keep the last of two cookies, skip unusual names and unquote values. An
    attacker could use each of these to override the genuine cookie.
    """
    values = []
    for field, header in connection.scope["headers"]:
        if field != b"cookie":
            continue
        for pair in header.decode("latin-1").split(";"):
            found, separator, value = pair.strip(" \t").partition("=")
            if separator and found == name:
                values.append(value)
    return values


def set_cookie(name: str, value: str, *, secure: bool, max_age: timedelta | None) -> str:
    """Returns the value of `Set-Cookie`. Without `max_age`, the cookie ends with the browser."""
    parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if secure:
        parts.append("Secure")
    if max_age is not None:
        parts.append(f"Max-Age={math.ceil(max_age.total_seconds())}")
    return "; ".join(parts)
