"""Opaque bearer tokens: random tokens, stored in the database as hashes.

The prefix `aat_` distinguishes them from other bearer tokens. A checksum detects typing errors, so
a malformed token costs no query. A personal access token is an opaque token with a name.
"""

from collections.abc import Mapping

from starlette.requests import HTTPConnection

from authapi.crypto.secrets import OPAQUE_PREFIX, hash_secret, is_opaque_token, new_opaque_token
from authapi.errors import InvalidCredential
from authapi.identity import Identity, SessionKind
from authapi.services import Lifetime, Login
from authapi.strategies.base import (
    REALM,
    Challenge,
    Issued,
    Revocable,
    Unknown,
    bearer_credential,
)


class TokenStrategy(Revocable):
    """Authenticates requests by opaque bearer tokens."""

    name = "token"

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        token = bearer_credential(connection)
        if token is None or not token.startswith(OPAQUE_PREFIX):
            return None
        if not is_opaque_token(token):
            raise InvalidCredential
        identity = await self.services.sessions.identify_by_secret(
            hash_secret(token), SessionKind.TOKEN, strategy=self.name
        )
        if identity is None:
            raise InvalidCredential
        return identity

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        token = bearer_credential(connection)
        if token is None or not token.startswith(OPAQUE_PREFIX):
            return None
        cached = self.services.sessions.get_cached(hash_secret(token), strategy=self.name)
        return cached or Unknown.ASK

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

    @property
    def issues(self) -> Mapping[str, str]:
        return {
            "access_token": "The token. No other response contains it.",
            "token_type": "Always `bearer`.",
            "expires_in": "Seconds until the token expires.",
        }

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": f"{OPAQUE_PREFIX}...",
            "description": "An opaque token from POST /login with `strategy: token`, or a personal "
            "access token from POST /me/tokens.",
        }
