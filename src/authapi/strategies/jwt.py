"""Way 3, signed: a JWT that anybody with our public key can read, and that a logout really ends.

It carries who, how and until when (RFC 9068), and `sid`, the session behind it. The signature is
checked first; then the session must still be there, which is what makes logout, deactivation and a
change of password real without a list of dead tokens.
"""

from collections.abc import Collection, Mapping

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto.refresh import new_refresh_token
from authapi.crypto.secrets import hash_secret
from authapi.errors import InvalidCredential, TokenError
from authapi.identity import Identity, SessionKind
from authapi.services import Lifetime, Login
from authapi.services.scopes import effective_scopes, existing_scopes
from authapi.services.tokens import Renewed
from authapi.services.tokens.claims import access_claims
from authapi.strategies.base import (
    REALM,
    Challenge,
    Issued,
    Refreshable,
    Unknown,
    bearer_credential,
)


class JWTStrategy(Refreshable):
    """Signed bearer tokens."""

    name = "jwt"

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        token = bearer_credential(connection)
        if token is None or token.count(".") != 2:
            return None
        number = self.services.sessions.number()
        try:
            claims = access_claims(await self.services.keys.verify_access_token(token, now=now()))
        except TokenError:
            raise InvalidCredential from None
        identity = await self.services.sessions.identify_id(
            claims.session_id,
            SessionKind.JWT,
            user_id=claims.user_id,
            strategy=self.name,
            credential=hash_secret(token),
            kid=claims.kid,
            expires_at=claims.expires_at,
            scopes=claims.scopes,
            number=number,
        )
        if identity is None:
            raise InvalidCredential
        return identity

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        token = bearer_credential(connection)
        if token is None or token.count(".") != 2:
            return None
        known = self.services.sessions.recall(hash_secret(token), strategy=self.name)
        return known or Unknown.ASK

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        settings, first = self.services.settings, new_refresh_token()
        session = await self.services.sessions.begin(
            login,
            SessionKind.JWT,
            lifetime=Lifetime(settings.refresh_absolute, settings.refresh_idle),
            refresh=first,
        )
        scopes = effective_scopes(session.scopes, login.user, settings)
        return await self._issued(
            Renewed(login.user, session, scopes, first.text, session.created_at)
        )

    async def refresh(self, refresh_token: str, *, scopes: Collection[str] | None) -> Issued:
        renewed = await self.services.refresh_tokens.exchange(refresh_token, scopes=scopes)
        return await self._issued(renewed)

    async def _issued(self, renewed: Renewed) -> Issued:
        settings, session = self.services.settings, renewed.session
        # NumericDate is written in whole seconds: what we promise must not outlive what we sign.
        issued = renewed.at.replace(microsecond=0)
        ends = session.expires_at.replace(microsecond=0)
        expires = min(issued + settings.jwt_lifetime, ends)
        token = await self.services.keys.sign_access_token(
            renewed.user, session, issued=issued, expires=expires, scopes=renewed.scopes
        )
        return Issued(
            session_id=session.id,
            expires_at=expires,
            body={
                "access_token": token,
                "token_type": "bearer",
                "expires_in": int((expires - issued).total_seconds()),
                "refresh_token": renewed.refresh_token,
                "refresh_expires_in": int(
                    min(settings.refresh_idle, ends - issued).total_seconds()
                ),
            },
            scopes=renewed.scopes,
        )

    @property
    def issues(self) -> Mapping[str, str]:
        return {
            "access_token": "A JWT; its keys are at /.well-known/jwks.json.",
            "token_type": "Always `bearer`.",
            "expires_in": "Seconds until it ends.",
            "refresh_token": "For POST /token, once: the answer has the next one.",
            "refresh_expires_in": "Seconds until that ends if it is not used.",
        }

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        settings = self.services.settings
        description = "A JWT from POST /login with `strategy: jwt`, signed with ES256."
        if not settings.docs_enabled:
            # The password grant exists for the docs page's Authorize dialog, and with it only.
            return {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": description,
            }
        flow = {"tokenUrl": "token", "scopes": dict(existing_scopes(settings))}
        return {"type": "oauth2", "flows": {"password": flow}, "description": description}
