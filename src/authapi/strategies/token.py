"""Opaque bearer tokens: random tokens, stored in the database as hashes.

The prefix `aat_` distinguishes them from other bearer tokens. A checksum detects typing errors, so
a malformed token costs no query. A personal access token is an opaque token with a name.
"""

from collections.abc import Mapping

from starlette.requests import HTTPConnection

from authapi.crypto.secrets import (
    OPAQUE_PREFIX,
    SecretHash,
    hash_secret,
    is_opaque_token,
    new_opaque_token,
)
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential
from authapi.services import Lifetime, Login
from authapi.strategies.base import REALM, BearerStrategy, Challenge, Issued, Revocable


class TokenStrategy(BearerStrategy, Revocable[str]):
    """Authenticates requests by opaque bearer tokens."""

    name = "token"
    asked_before_body = True

    def has_shape(self, token: str) -> bool:
        return token.startswith(OPAQUE_PREFIX)

    def cache_key(self, credential: str) -> SecretHash | None:
        return hash_secret(credential)

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        if not is_opaque_token(credential):
            raise InvalidCredential
        identity = await self.services.sessions.identify_by_secret(
            hash_secret(credential), SessionKind.TOKEN, strategy=self.name
        )
        if identity is None:
            raise InvalidCredential
        return identity

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        token = new_opaque_token()
        session = await self.services.sessions.create(
            login,
            SessionKind.TOKEN,
            lifetime=Lifetime(self.services.settings.token_lifetime),
            secret=hash_secret(token),
        )
        return Issued(
            session_id=session.id,
            expires_at=session.expires_at,
            body={
                "access_token": token,
                "token_type": "bearer",
                "expires_in": int((session.expires_at - session.created_at).total_seconds()),
            },
        )

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        prefix = self.services.settings.prefix
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": f"{OPAQUE_PREFIX}...",
            "description": f"An opaque token from POST {prefix}/login with `strategy: token`, or a "
            f"personal access token from POST {prefix}/me/tokens.",
        }
