"""Signed bearer tokens: JWT access tokens (RFC 9068), with refresh tokens.

Services with the public keys can verify a token by themselves. Its `sid` claim names a session in
the database. This strategy verifies the signature first, then looks up the session, so logout,
deactivation and a change of password end a token at once. No list of revoked tokens is needed.
"""

from collections.abc import Collection, Mapping

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto.refresh_tokens import new_refresh_token
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.domain.identity import Identity
from authapi.domain.scopes import effective_scopes, supported_scopes
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential, TokenError
from authapi.services import Lifetime, Login
from authapi.services.tokens import RefreshedSession
from authapi.services.tokens.claims import parse_access_claims
from authapi.strategies.base import REALM, BearerStrategy, Challenge, Issued, Refreshable


class JWTStrategy(BearerStrategy, Refreshable[str]):
    """Authenticates requests by signed bearer tokens."""

    name = "jwt"
    asked_before_body = True

    def has_shape(self, token: str) -> bool:
        return token.count(".") == 2

    def cache_key(self, credential: str) -> SecretHash | None:
        return hash_secret(credential)

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        snapshot = self.services.sessions.snapshot()
        try:
            claims = parse_access_claims(
                await self.services.keys.verify_access_token(credential, now=now())
            )
        except TokenError:
            raise InvalidCredential from None
        identity = await self.services.sessions.identify_by_id(
            claims.session_id,
            SessionKind.JWT,
            user_id=claims.user_id,
            strategy=self.name,
            credential=hash_secret(credential),
            kid=claims.kid,
            expires_at=claims.expires_at,
            scopes=claims.scopes,
            snapshot=snapshot,
        )
        if identity is None:
            raise InvalidCredential
        return identity

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        settings, first = self.services.settings, new_refresh_token()
        await self.services.keys.signing_key()
        session = await self.services.sessions.create(
            login,
            SessionKind.JWT,
            lifetime=Lifetime(settings.refresh_absolute, settings.refresh_idle),
            refresh=first,
        )
        hooks = self.services.hooks
        own = await hooks.own_scopes(login.user) if hooks.adds_scopes else None
        scopes = effective_scopes(session.scopes, login.user, settings, own, amr=session.amr)
        return await self._issued(
            RefreshedSession(login.user, session, scopes, first.text, session.created_at)
        )

    async def refresh(self, refresh_token: str, *, scopes: Collection[str] | None) -> Issued:
        await self.services.keys.signing_key()
        renewed = await self.services.tokens.refresh.refresh(refresh_token, scopes=scopes)
        return await self._issued(renewed)

    async def _issued(self, renewed: RefreshedSession) -> Issued:
        settings, session = self.services.settings, renewed.session
        # A NumericDate has whole seconds: the expiry in the body must equal the `exp` claim.
        issued = renewed.at.replace(microsecond=0)
        session_end = session.expires_at.replace(microsecond=0)
        expires = min(issued + settings.jwt_lifetime, session_end)
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
                    min(settings.refresh_idle, session_end - issued).total_seconds()
                ),
            },
            scopes=renewed.scopes,
        )

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        settings = self.services.settings
        login = f"POST {settings.prefix}/login"
        description = f"A JWT from {login} with `strategy: jwt`, signed with ES256."
        if not settings.allows_password_grant:
            return {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": description,
            }
        # Relative to the URL of the application: a proxy in front may add to the path.
        token_url = f"{settings.prefix}/token".removeprefix("/")
        flow = {"tokenUrl": token_url, "scopes": dict(supported_scopes(settings))}
        return {"type": "oauth2", "flows": {"password": flow}, "description": description}
