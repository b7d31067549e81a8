"""Way 2: a session kept on the server, found by a secret in a cookie.

The cookie holds 256 random bits and nothing else. It is HttpOnly, SameSite=Lax, without Domain, and
under its `__Host-` name browsers refuse it from anyone but this host over TLS (RFC 6265bis, 4.1.3).
"""

import math
from collections.abc import Mapping
from datetime import timedelta

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto.secrets import SecretHash, hash_secret, is_secret, new_secret
from authapi.errors import InvalidCredential
from authapi.identity import Identity, SessionKind
from authapi.services import Lifetime, Login, Services
from authapi.strategies.base import REALM, Challenge, Issued, Renewable, Renewal, Unknown


class SessionStrategy(Renewable):
    """Cookie sessions."""

    name = "session"
    ambient = True

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        settings = services.settings
        self._secure = settings.cookie_secure
        self._cookie = "__Host-authapi" if self._secure else "authapi"
        self._session = Lifetime(settings.session_absolute, settings.session_idle)
        self._remembered = Lifetime(
            settings.remember_absolute, settings.remember_idle, remembered=True
        )

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        values = self._values(connection)
        if not values:
            return None
        # Two cookies of one name mean that one was planted; which is ours cannot be known. Neither
        # is removed: that would remove ours, and leave the planted one to be taken for it.
        if len(values) > 1 or not is_secret(values[0]):
            raise InvalidCredential
        identity = await self.services.sessions.identify_secret(
            hash_secret(values[0]), SessionKind.SESSION, strategy=self.name
        )
        if identity is None:
            # Not where the secret was replaced a moment ago: this answer may arrive after the one
            # with the new cookie, which it must not remove.
            raise InvalidCredential(headers=self.discard())
        return identity

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        values = self._values(connection)
        if not values:
            return None
        if len(values) > 1:
            return Unknown.ASK
        known = self.services.sessions.recall(hash_secret(values[0]), strategy=self.name)
        return known or Unknown.ASK

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        secret = new_secret()
        session = await self.services.sessions.begin(
            login,
            SessionKind.SESSION,
            lifetime=self._remembered if remember else self._session,
            secret=hash_secret(secret),
            replaces=self._presented(connection),
        )
        age = self._remembered.absolute if remember else None
        return Issued(
            session_id=session.id,
            expires_at=session.expires_at,
            headers=(("set-cookie", self._set_cookie(secret, max_age=age)),),
        )

    @property
    def issues(self) -> Mapping[str, str]:
        return {}

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
            # The session ends when it would have ended with the cookie before.
            age = max(identity.expires_at - now(), timedelta(seconds=1))
        cookie = self._set_cookie(secret, max_age=age)
        return Renewal(secret=hash_secret(secret), headers=(("set-cookie", cookie),))

    def challenge(self) -> Challenge:
        # No registered scheme stands for a cookie; this names what is missing, and no browser
        # answers it with a dialog.
        return Challenge("Cookie", {"realm": REALM, "cookie-name": self._cookie})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": self._cookie,
            "description": "A session that POST /login begins with `strategy: session`. Browsers "
            "keep and send the cookie by themselves.",
        }

    def _presented(self, connection: HTTPConnection) -> SecretHash | None:
        values = self._values(connection)
        return hash_secret(values[0]) if len(values) == 1 and is_secret(values[0]) else None

    def _values(self, connection: HTTPConnection) -> list[str]:
        # Read by hand: the usual parsers let the last cookie win, skip names they do not like and
        # unquote values, each a way to plant a cookie over another.
        values = []
        for field, header in connection.scope["headers"]:
            if field != b"cookie":
                continue
            for pair in header.decode("latin-1").split(";"):
                name, separator, value = pair.strip(" \t").partition("=")
                if separator and name == self._cookie:
                    values.append(value)
        return values

    def _set_cookie(self, value: str, *, max_age: timedelta | None) -> str:
        parts = [f"{self._cookie}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
        if self._secure:
            parts.append("Secure")
        if max_age is not None:
            parts.append(f"Max-Age={math.ceil(max_age.total_seconds())}")
        return "; ".join(parts)
