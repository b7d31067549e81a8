"""Token exchange: whoever is logged in gets a short JWT for another service, with fewer scopes.

The other service verifies it by our public keys and its own name in `aud`, and never sees the
credential that it was minted from. We refuse it ourselves, so it cannot come back as a login. Its
`sid` names the session of the caller: introspection says that it is dead when that ends. Nothing is
written. The idea is that of RFC 8693, without its grant.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from authapi.clock import now
from authapi.errors import InputError, InvalidCredential, InvalidInput
from authapi.identity import Identity, Session, User
from authapi.services.alive import require_same
from authapi.services.callers import Activity
from authapi.services.keys import Keys
from authapi.services.scopes import effective_scopes
from authapi.settings import Settings
from authapi.storage import Database


@dataclass(frozen=True, slots=True)
class ExchangedToken:
    """A JWT for another service."""

    text: str = field(repr=False)
    audience: str
    scopes: frozenset[str]
    issued_at: datetime
    expires_at: datetime


class Exchange:
    """Mints JWTs for other services."""

    def __init__(
        self, database: Database, keys: Keys, activity: Activity, settings: Settings
    ) -> None:
        self._database = database
        self._keys = keys
        self._activity = activity
        self._settings = settings

    async def mint(
        self,
        caller: Identity,
        *,
        audience: str,
        scopes: Collection[str] | None = None,
        lifetime: timedelta | None = None,
    ) -> ExchangedToken:
        """A JWT of the session of `caller` for `audience`, which `jwt_audiences` must name.

        `scopes` must lie within those that `caller` holds, and None means all of them; `lifetime`
        is `jwt_lifetime` at most, and by default. It never outlives the credential or the session
        of `caller`. How and when that was proved goes along, so that what a personal access token
        is exchanged for is fresh nowhere either. Raises InvalidInput for what may not be,
        InvalidCredential if `caller` came without a session or it has ended.
        """
        if audience not in self._settings.jwt_audiences:
            raise _refused("audience", "audience_not_allowed", "is no service that JWTs are for")
        session, user = await self._alive(caller)
        # The caller may have been recognised from memory, a moment before they lost a role.
        held = caller.scopes & effective_scopes(session.scopes, user, self._settings)
        granted = held if scopes is None else frozenset(scopes)
        if not granted <= held:
            message = "names a scope that does not exist or that you do not hold"
            raise _refused("scopes", "scope_not_allowed", message)
        span = lifetime or self._settings.jwt_lifetime
        if span > self._settings.jwt_lifetime:
            longest = int(self._settings.jwt_lifetime.total_seconds())
            raise _refused("expires_in", "lifetime_too_long", f"at most {longest} seconds")
        # NumericDate is written in whole seconds: what we promise must not outlive what we sign.
        issued = now().replace(microsecond=0)
        ends = min(session.expires_at, caller.expires_at or session.expires_at)
        expires = min(issued + span, ends.replace(microsecond=0))
        if expires <= issued:
            raise InvalidCredential  # it ends within this second
        text = await self._keys.sign_access_token(
            user, session, issued=issued, expires=expires, scopes=granted, audience=audience
        )
        return ExchangedToken(text, audience, granted, issued, expires)

    async def _alive(self, caller: Identity) -> tuple[Session, User]:
        """The session of `caller` as the database has it now: memory is not enough to vouch for it
        to others. One statement.
        """
        if caller.session_id is None:
            raise InvalidCredential
        async with self._database.read() as store:
            found = await store.sessions.find_with_user(caller.session_id)
        session = require_same(None if found is None else found[0], caller)
        if found is None or not found[1].is_active or self._activity.is_over(session, now()):
            raise InvalidCredential
        return session, found[1]


def _refused(member: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(InputError(("body", member), code, message))
