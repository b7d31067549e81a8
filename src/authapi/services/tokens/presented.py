"""What a text is that somebody holds: which kind of token, of which session, and whose.

The kind is told by shape alone, as strategies do; a hint is not needed and would be a second
opinion. What has no shape of ours, no good signature or no session behind it is nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from authapi.clock import now
from authapi.crypto.refresh import REFRESH_PREFIX, parse_refresh_token
from authapi.crypto.secrets import hash_secret, is_opaque_token
from authapi.errors import TokenError
from authapi.identity import Session, SessionKind, User
from authapi.services.callers import Activity
from authapi.services.keys import Keys
from authapi.services.scopes import effective_scopes
from authapi.services.tokens.claims import access_claims
from authapi.settings import Settings
from authapi.storage import Database


class TokenKind(Enum):
    """What a token is good for."""

    ACCESS = "access"
    """It is presented to resources."""
    REFRESH = "refresh"
    """It is exchanged at the token endpoint."""
    REPLACED = "replaced"
    """A refresh token that was exchanged: it names its family, and is good for nothing else."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A token of ours whose session is alive."""

    kind: TokenKind
    session: Session
    user: User
    scopes: frozenset[str]
    """What it may do now, which is less than what is written in it if its user has lost roles."""
    audience: object
    """Who it is for: one name, or a list of them."""
    issued_at: datetime
    expires_at: datetime
    """When it ends unless something ends it before; for a refresh token, if it is not used."""
    jti: str | None = None
    """The name of this one token, where it has one."""
    is_exchanged: bool = False
    """Whether it is for another service: its session is that of the credential that it was
    exchanged for, and who holds it has no say in that."""


class PresentedTokens:
    """Reads tokens; nothing is used, rotated or ended by that."""

    def __init__(
        self, database: Database, keys: Keys, activity: Activity, settings: Settings
    ) -> None:
        self._database = database
        self._keys = keys
        self._activity = activity
        self._settings = settings

    async def find(self, text: str) -> Presented | None:
        """The token that `text` is, or None if it is none of ours or its session is over."""
        if text.startswith(REFRESH_PREFIX):
            found = await self._refresh(text)
        elif is_opaque_token(text):
            found = await self._opaque(text)
        else:
            found = await self._signed(text)
        if found is None or self._activity.is_over(found.session, now()):
            return None
        return found

    async def _refresh(self, text: str) -> Presented | None:
        token = parse_refresh_token(text)
        if token is None:
            return None
        async with self._database.read() as store:
            family = await store.refresh_families.find(token.family_hash)
            if family is None:
                return None
            found = await store.sessions.find_with_user(family.session_id)
        if found is None:
            return None
        session, user = found
        return Presented(
            kind=TokenKind.REFRESH if token.hash == family.current else TokenKind.REPLACED,
            session=session,
            user=user,
            scopes=self._scopes(session, user),
            audience=self._settings.issuer,
            issued_at=family.rotated_at or session.created_at,
            expires_at=self._activity.ends_at(session),
        )

    async def _opaque(self, text: str) -> Presented | None:
        async with self._database.read() as store:
            found = await store.sessions.find_by_secret(hash_secret(text), SessionKind.TOKEN)
        if found is None:
            return None
        session, user = found
        return Presented(
            kind=TokenKind.ACCESS,
            session=session,
            user=user,
            scopes=self._scopes(session, user),
            audience=self._settings.jwt_audience,
            issued_at=session.created_at,
            expires_at=session.expires_at,
        )

    async def _signed(self, text: str) -> Presented | None:
        own = self._settings.jwt_audience
        everybody = (own, *self._settings.jwt_audiences)
        try:
            # The signature first: until then it is a text of anybody.
            claims = access_claims(
                await self._keys.verify_access_token(text, now=now(), audiences=everybody)
            )
        except TokenError:
            return None
        # One for ourselves is a login with `jwt`. One for others may come of any session.
        kind = SessionKind.JWT if claims.audience == own else None
        async with self._database.read() as store:
            found = await store.sessions.find_signed(claims.session_id, kind, kid=claims.kid)
            ended = {} if kind else await store.sessions.ended_jwts(claims.session_id)
        if found is None or found[1].id != claims.user_id or claims.jti in ended:
            return None
        session, user = found
        return Presented(
            kind=TokenKind.ACCESS,
            session=session,
            user=user,
            scopes=self._scopes(session, user) & claims.scopes,
            audience=claims.audience,
            issued_at=claims.issued_at,
            expires_at=min(claims.expires_at, session.expires_at),
            jti=claims.jti,
            is_exchanged=kind is None,
        )

    def _scopes(self, session: Session, user: User) -> frozenset[str]:
        return effective_scopes(session.scopes, user, self._settings)
