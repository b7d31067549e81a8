"""Token exchange: a caller gets a short-lived JWT for another service, with at most its scopes.

The other service verifies the JWT with the public keys of this one and finds its own name in `aud`;
it never sees the credential of the caller. This service does not accept the JWT as a login. Its
`sid` is the session of the caller, so introspection reports it as inactive once that session has
ended. The database is only read. This is the idea of RFC 8693 without its grant type.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from authapi.clock import now
from authapi.domain.identity import Identity
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.errors import InputError, InvalidCredential, InvalidInput
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import LastUsed
from authapi.services.keys import Keys
from authapi.services.revalidation import check_same_login
from authapi.settings import Settings
from authapi.storage import Database


@dataclass(frozen=True, slots=True)
class ExchangedToken:
    """A JWT for another service, as issued."""

    text: str = field(repr=False)
    audience: str
    scopes: frozenset[str]
    issued_at: datetime
    expires_at: datetime


class TokenExchange:
    """Issues JWTs for other services."""

    def __init__(
        self, database: Database, keys: Keys, last_used: LastUsed, hooks: Hooks, settings: Settings
    ) -> None:
        self._database = database
        self._hooks = hooks
        self._keys = keys
        self._last_used = last_used
        self._settings = settings

    async def exchange(
        self,
        caller: Identity,
        *,
        audience: str,
        scopes: Collection[str] | None = None,
        lifetime: timedelta | None = None,
    ) -> ExchangedToken:
        """Issues a JWT for `audience` that belongs to the session of `caller`.

        `audience` is one of the setting `jwt_audiences`. `scopes` is a subset of the scopes of
        `caller`; None means all of them. `lifetime` is at most the setting `jwt_lifetime`, which
        is the default; the JWT expires no later than the credential and the session of `caller`.
        It carries `auth_time`, `amr` and `acr` of the session. A personal access token comes from
        no login, so a JWT for it counts as neither fresh nor strong at the other service.

        Raises InvalidInput if `audience`, `scopes` or `lifetime` is not allowed, InvalidCredential
        if `caller` has no session or it has ended, StorageUnavailable if the database does not
        answer.
        """
        if audience not in self._settings.jwt_audiences:
            message = "is not an audience that AUTHAPI_JWT_AUDIENCES allows"
            raise _invalid("audience", "audience_not_allowed", message)
        session, user = await self._live_session(caller)
        # The identity may come from the cache, from before the user lost a role.
        own = await self._hooks.own_scopes(user)
        held = caller.scopes & effective_scopes(
            session.scopes, user, self._settings, own, amr=session.amr
        )
        granted = held if scopes is None else frozenset(scopes)
        if not granted <= held:
            message = "includes a scope that does not exist or that you do not have"
            raise _invalid("scopes", "scope_not_allowed", message)
        span = lifetime or self._settings.jwt_lifetime
        if span > self._settings.jwt_lifetime:
            longest = int(self._settings.jwt_lifetime.total_seconds())
            raise _invalid("expires_in", "lifetime_too_long", f"at most {longest} seconds")
        # A NumericDate is in whole seconds: `expires_at` of the answer must equal `exp`.
        issued = now().replace(microsecond=0)
        ends = min(session.expires_at, caller.expires_at or session.expires_at)
        expires = min(issued + span, ends.replace(microsecond=0))
        if expires <= issued:
            raise InvalidCredential  # the session ends within this second
        text = await self._keys.sign_access_token(
            user, session, issued=issued, expires=expires, scopes=granted, audience=audience
        )
        return ExchangedToken(text, audience, granted, issued, expires)

    async def _live_session(self, caller: Identity) -> tuple[Session, User]:
        """Reads the session of `caller` and its user from the database, in one statement.

        The cached identity does not suffice: the other service trusts the JWT until it expires.
        """
        if caller.session_id is None:
            raise InvalidCredential
        async with self._database.read() as store:
            row = await store.sessions.find_with_user(caller.session_id)
        session = check_same_login(None if row is None else row[0], caller)
        if row is None or not row[1].is_active or self._last_used.is_over(session, now()):
            raise InvalidCredential
        return session, row[1]


def _invalid(member: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(InputError(("body", member), code, message))
