"""Token revocation (RFC 7009).

Revoking a token ends its session with all other tokens of it. A JWT for another service is the
exception: it ends alone. The service stores nothing when it issues such a JWT, so the session
stores the `jti` of each revoked one until the JWT expires, and introspection checks that list. A
resource that only verifies signatures does not learn of a revocation (RFC 7009, section 3).
"""

from typing import Any

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.errors import Overloaded
from authapi.services.audit import Audit
from authapi.services.tokens.introspection import TokenInfo, TokenLookup
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

_MAX_REVOKED_JWTS = 1000
"""Stored for one session at a time."""


class TokenRevocation:
    """Ends tokens. Each call raises StorageUnavailable if the database does not answer."""

    def __init__(self, database: Database, lookup: TokenLookup, audit: Audit) -> None:
        self._database = database
        self._lookup = lookup
        self._audit = audit

    async def revoke(self, token: str, *, caller: Identity | None) -> None:
        """Ends the session of `token`, or `token` alone if it is a JWT for another service.

        An unknown token is ignored (RFC 7009, section 2.2). `caller` is None for a client that
        does not authenticate: possession of the token suffices then. An authenticated caller can
        only revoke tokens of their own account (OWASP ASVS 10.4.9). A refresh token that was
        already used also ends its session: its holder is the client, or has stolen it.

        Raises Overloaded if the session stores too many revoked JWTs.
        """
        info = await self._lookup.find(token)
        if info is None or (caller is not None and caller.user.id != info.user.id):
            return
        if info.is_exchanged:
            await self.revoke_exchanged(info, EventType.TOKEN_ENDED)
        else:
            await self._end_session(info.session)

    @retry_on_conflict
    async def revoke_exchanged(self, token: TokenInfo, event: EventType, **details: Any) -> None:
        """Ends `token`, a JWT for another service, and records `event` with `details`.

        Does nothing if the JWT or its session has ended. Raises Overloaded while the session
        stores 1000 other revoked JWTs: RFC 7009, section 2.2.1, has clients retry after a 503.
        """
        async with self._database.transaction() as store:
            if await _store_revoked_jwt(store, token):
                await self._audit.record(
                    store,
                    event,
                    user_id=token.user.id,
                    session_id=token.session.id,
                    strategy=SessionKind.JWT.value,
                    audience=token.audience,
                    **details,
                )

    @retry_on_conflict
    async def _end_session(self, session: Session) -> None:
        async with self._database.transaction() as store:
            if await store.sessions.end(session.id):
                await self._audit.record(
                    store,
                    EventType.LOGOUT if session.name is None else EventType.TOKEN_ENDED,
                    user_id=session.user_id,
                    session_id=session.id,
                    strategy=session.kind.value,
                )


async def _store_revoked_jwt(store: Store, token: TokenInfo) -> bool:
    """Stores the `jti` of `token` in its session; False if the JWT or the session has ended."""
    if await store.sessions.lock(token.session.id) is None:
        return False
    revoked, at = await store.sessions.revoked_jwts(token.session.id), now().timestamp()
    unexpired = {jti: expires for jti, expires in revoked.items() if expires > at}
    if token.jti is None or token.jti in unexpired:
        return False
    if len(unexpired) >= _MAX_REVOKED_JWTS:
        raise Overloaded
    unexpired[token.jti] = token.expires_at.timestamp()
    await store.sessions.set_revoked_jwts(token.session.id, unexpired)
    return True
