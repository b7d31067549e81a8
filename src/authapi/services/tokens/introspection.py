"""Token introspection (RFC 7662): what a token stands for, and whether it is active.

The kind of a token follows from its format alone, as in the strategies, so no `token_type_hint` is
needed. A token of unknown format, with an invalid signature, or without a live session is unknown.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from authapi.clock import now
from authapi.crypto.refresh_tokens import REFRESH_PREFIX, parse_refresh_token
from authapi.crypto.secrets import hash_secret, is_opaque_token
from authapi.domain.factors.policy import is_too_weak
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import TokenError
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import LastUsed
from authapi.services.keys import Keys
from authapi.services.tokens.claims import parse_access_claims
from authapi.settings import Settings
from authapi.storage import Database


class TokenKind(Enum):
    """What a token can be used for."""

    ACCESS = "access"
    """An access token: a client presents it to a resource."""
    REFRESH = "refresh"
    """The current refresh token of its family: a client presents it to the token endpoint."""
    ROTATED = "rotated"
    """A refresh token that was used. It still identifies its family, and nothing else."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token of this service whose session is live."""

    kind: TokenKind
    session: Session
    user: User
    scopes: frozenset[str]
    """The scopes that the token grants now: fewer than it names if its user has lost a role."""
    audience: object
    """A string or a list of strings."""
    issued_at: datetime
    expires_at: datetime
    """The latest time at which the token is active. An unused refresh token expires here."""
    jti: str | None = None
    """The identifier of a JWT; None for opaque tokens and refresh tokens."""
    is_exchanged: bool = False
    """Whether the token is a JWT for another service. Its session is that of the credential that
    was exchanged for it, and the holder of the JWT has no rights over that session."""


class TokenLookup:
    """Looks tokens up without using, rotating or ending them."""

    def __init__(
        self, database: Database, keys: Keys, last_used: LastUsed, hooks: Hooks, settings: Settings
    ) -> None:
        self._database = database
        self._hooks = hooks
        self._keys = keys
        self._last_used = last_used
        self._settings = settings

    async def find(self, token: str) -> TokenInfo | None:
        """Returns what `token` stands for, or None if it is unknown or its session has ended.

        Raises StorageUnavailable if the database does not answer.
        """
        if token.startswith(REFRESH_PREFIX):
            info = await self._find_refresh_token(token)
        elif is_opaque_token(token):
            info = await self._find_opaque_token(token)
        else:
            info = await self._find_jwt(token)
        if info is None or self._last_used.is_over(info.session, now()):
            return None
        return info

    async def _find_refresh_token(self, text: str) -> TokenInfo | None:
        token = parse_refresh_token(text)
        if token is None:
            return None
        async with self._database.read() as store:
            family = await store.refresh_families.find(token.family_hash)
            if family is None:
                return None
            row = await store.sessions.find_with_user(family.session_id)
        if row is None:
            return None
        session, user = row
        return TokenInfo(
            kind=TokenKind.REFRESH if token.hash == family.current else TokenKind.ROTATED,
            session=session,
            user=user,
            scopes=await self._scopes(session, user),
            audience=self._settings.issuer,
            issued_at=family.rotated_at or session.created_at,
            expires_at=self._last_used.ends_at(session),
        )

    async def _find_opaque_token(self, token: str) -> TokenInfo | None:
        row = await self._database.sessions.find_by_secret(hash_secret(token), SessionKind.TOKEN)
        if row is None:
            return None
        session, user = row
        return TokenInfo(
            kind=TokenKind.ACCESS,
            session=session,
            user=user,
            scopes=await self._scopes(session, user),
            audience=self._settings.jwt_audience,
            issued_at=session.created_at,
            expires_at=session.expires_at,
        )

    async def _find_jwt(self, token: str) -> TokenInfo | None:
        own_audience = self._settings.jwt_audience
        audiences = (own_audience, *self._settings.jwt_audiences)
        try:
            # The claims are untrusted until the signature is verified.
            claims = parse_access_claims(
                await self._keys.verify_access_token(token, now=now(), audiences=audiences)
            )
        except TokenError:
            return None
        # A JWT for this service belongs to a session of the `jwt` strategy. A JWT for another
        # service can belong to a session of any kind.
        kind = SessionKind.JWT if claims.audience == own_audience else None
        async with self._database.read() as store:
            row = await store.sessions.find_by_signed_id(claims.session_id, kind, kid=claims.kid)
            revoked = {} if kind else await store.sessions.revoked_jwts(claims.session_id)
        if row is None or row[1].id != claims.user_id or claims.jti in revoked:
            return None
        session, user = row
        return TokenInfo(
            kind=TokenKind.ACCESS,
            session=session,
            user=user,
            scopes=await self._scopes(session, user) & claims.scopes,
            audience=claims.audience,
            issued_at=claims.issued_at,
            expires_at=min(claims.expires_at, session.expires_at),
            jti=claims.jti,
            is_exchanged=kind is None,
        )

    async def _scopes(self, session: Session, user: User) -> frozenset[str]:
        own = await self._hooks.own_scopes(user)
        return effective_scopes(session.scopes, user, self._settings, own, amr=session.amr)


class TokenIntrospection:
    """Introspects tokens for clients that are allowed to (RFC 7662)."""

    def __init__(self, lookup: TokenLookup, last_used: LastUsed, settings: Settings) -> None:
        self._lookup = lookup
        self._last_used = last_used
        self._settings = settings

    async def introspect(self, token: str) -> TokenInfo | None:
        """Returns what `token` stands for, or None if it is not active for any reason.

        The introspection of an access token counts as a use of its session, because a client has
        just presented the token to the resource that introspects it. A refresh token is not
        rotated. Raises StorageUnavailable if the database does not answer.
        """
        info = await self._lookup.find(token)
        if info is None or info.kind is TokenKind.ROTATED or not info.user.is_active:
            return None
        if is_too_weak(info.session.amr, self._settings):
            return None  # `mfa=required` refuses it here, and so should the resource server
        if info.kind is TokenKind.ACCESS:
            self._last_used.record(info.session.id, now(), idle=info.session.idle)
        return info
