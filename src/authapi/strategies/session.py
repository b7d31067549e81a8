"""Cookie sessions: the session is a row in the database, and the cookie has its secret.

The cookie contains 256 random bits. It is HttpOnly and SameSite=Lax, and has no Domain. With the
`__Host-` prefix, browsers accept it only from this host over TLS (RFC 6265bis, section 4.1.3).
"""

import math
from collections.abc import Mapping
from datetime import timedelta

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto.secrets import SecretHash, hash_secret, is_secret, new_secret
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential
from authapi.services import Lifetime, Login, Services
from authapi.strategies.base import REALM, Challenge, Issued, Renewable, Renewal


class SessionStrategy(Renewable[str]):
    """Authenticates requests by a session cookie."""

    name = "session"
    ambient = True
    asked_before_body = True

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        settings = services.settings
        self._secure = settings.cookie_secure
        self._cookie = cookie_name("authapi", secure=self._secure)
        self._session = Lifetime(settings.session_absolute, settings.session_idle)
        self._remembered = Lifetime(
            settings.remember_absolute, settings.remember_idle, remembered=True
        )

    def read(self, connection: HTTPConnection) -> str | None:
        values = cookie_values(connection, self._cookie)
        # With two cookies of this name, an attacker has planted one, and the request does not show
        # which. The response deletes neither: it could only delete the genuine one.
        if len(values) > 1:
            raise InvalidCredential
        return values[0] if values else None

    def cache_key(self, credential: str) -> SecretHash | None:
        return hash_secret(credential)

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        if not is_secret(credential):
            raise InvalidCredential
        identity = await self.services.sessions.identify_by_secret(
            hash_secret(credential), SessionKind.SESSION, strategy=self.name
        )
        if identity is None:
            # For a secret that was replaced just now, `identify_by_secret` raises without these
            # headers: this response may arrive after the one that sets the new cookie.
            raise InvalidCredential(headers=self.discard())
        return identity

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        secret = new_secret()
        session = await self.services.sessions.create(
            login,
            SessionKind.SESSION,
            lifetime=self._remembered if remember else self._session,
            secret=hash_secret(secret),
            replaces=self._secret_to_replace(connection),
        )
        age = self._remembered.absolute if remember else None
        return Issued(
            session_id=session.id,
            expires_at=session.expires_at,
            headers=(("set-cookie", self._set_cookie(secret, max_age=age)),),
        )

    async def revoke(self, identity: Identity) -> tuple[tuple[str, str], ...]:
        await super().revoke(identity)
        return (
            *self.discard(),
            ("clear-site-data", '"cache", "cookies", "storage"'),
        )

    def discard(self) -> tuple[tuple[str, str], ...]:
        return (("set-cookie", self._set_cookie("", max_age=timedelta(0))),)

    def renew(self, identity: Identity) -> Renewal:
        secret, age = new_secret(), None
        if identity.remembered and identity.expires_at is not None:
            # The new cookie expires with the session, as the old one would have.
            age = max(identity.expires_at - now(), timedelta(seconds=1))
        cookie = self._set_cookie(secret, max_age=age)
        return Renewal(secret=hash_secret(secret), headers=(("set-cookie", cookie),))

    def challenge(self) -> Challenge:
        # No registered scheme describes a cookie. Browsers show no dialog for an unknown scheme.
        return Challenge("Cookie", {"realm": REALM, "cookie-name": self._cookie})

    def openapi(self) -> Mapping[str, object]:
        login = f"POST {self.services.settings.prefix}/login"
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": self._cookie,
            "description": f"A session that {login} begins with `strategy: session`. Browsers "
            "store and send the cookie by themselves.",
        }

    def _secret_to_replace(self, connection: HTTPConnection) -> SecretHash | None:
        values = cookie_values(connection, self._cookie)
        return hash_secret(values[0]) if len(values) == 1 and is_secret(values[0]) else None

    def _set_cookie(self, value: str, *, max_age: timedelta | None) -> str:
        return set_cookie(self._cookie, value, secure=self._secure, max_age=max_age)


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
