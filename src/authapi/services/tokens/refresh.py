"""Refresh tokens: each is good once, and a second use is either a lost answer or theft.

A family is the refresh tokens of one session; one of them is current. Whoever presents that rotates
it: one statement compares and swaps, so of any number at the same moment one wins. The others, and
whoever did not hear the answer, hold the token before. For `refresh_grace` they are given the same
successor again, which only they and the row together can make; so nobody is logged out by a second
tab, and no second chain begins. After that, or with a token from before that, somebody has a copy:
the session ends, with all that came of it (RFC 9700, section 4.14.2; OWASP ASVS 10.4.5).
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from authapi.clock import now
from authapi.crypto.refresh import RefreshToken, new_nonce, parse_refresh_token
from authapi.errors import InvalidGrant, InvalidScope
from authapi.identity import EventType, Session, User
from authapi.services.audit import Audit
from authapi.services.callers import Activity
from authapi.services.mail import Mail, Occasion
from authapi.services.scopes import effective_scopes
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.conflicts import retried
from authapi.storage.tables.refresh_families import RefreshFamily


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a refresh token was exchanged for."""

    user: User
    session: Session
    scopes: frozenset[str]
    """Of the access token to be: those of the session, or fewer."""
    refresh_token: str = field(repr=False)
    at: datetime


class RefreshTokens:
    """Exchanges refresh tokens."""

    def __init__(
        self,
        database: Database,
        activity: Activity,
        audit: Audit,
        mail: Mail,
        settings: Settings,
    ) -> None:
        self._database = database
        self._activity = activity
        self._audit = audit
        self._mail = mail
        self._settings = settings

    @retried
    async def exchange(self, text: str, *, scopes: Collection[str] | None = None) -> Renewed:
        """The session behind a refresh token, and the token that follows it.

        `scopes` must lie within what the session may do now, and None means all of them. Raises
        InvalidScope, and then nothing has changed; InvalidGrant for every other reason, be it
        unknown, over, or used before.
        """
        token = parse_refresh_token(text)
        if token is None:
            raise InvalidGrant
        async with self._database.transaction() as store:
            # The session before its family, as everywhere else. Its user is not locked: nothing
            # but the family is waited for after it.
            found = await store.sessions.lock_by_family(token.family_hash)
            if found is None:
                raise InvalidGrant
            session, user = found
            at = now()
            if self._activity.is_over(session, at) or not user.is_active:
                raise InvalidGrant
            held = effective_scopes(session.scopes, user, self._settings)
            granted = held if scopes is None else frozenset(scopes)
            if not granted <= held:
                raise InvalidScope
            following = await self._rotate(store, token, at)
        if following is None:
            await self._end_reused(token, at)
            raise InvalidGrant
        self._activity.saw(session.id, at, idle=self._settings.refresh_idle)
        return Renewed(user, session, granted, following.text, at)

    async def _end_reused(self, token: RefreshToken, at: datetime) -> None:
        """End the session of `token`, which was used before, at `at` too late for the grace.

        In a transaction of its own, after one that changed nothing: the mail to the user refers to
        the account, which has to be locked before the session. So the family is looked at again.
        """
        async with self._database.transaction() as store:
            found = await store.sessions.find_by_family(token.family_hash)
            if found is None or await store.users.lock(found[1].id) is None:
                return
            found = await store.sessions.lock_by_family(token.family_hash)
            family = await store.refresh_families.find(token.family_hash)
            if found is None or family is None or not self._is_reuse(family, token, at):
                return  # another transaction has ended the session or its family meanwhile
            session, user = found
            await store.sessions.end(session.id)
            await self._audit.record(
                store,
                EventType.REFRESH_REUSE,
                user_id=user.id,
                session_id=session.id,
                strategy=session.kind.value,
            )
            await self._mail.queue(store, Occasion.REFRESH_REUSE, user)

    async def _rotate(self, store: Store, token: RefreshToken, at: datetime) -> RefreshToken | None:
        """The token that follows, or None if this one was used before and that is too long ago.

        Raises InvalidGrant if the family has ended while this waited.
        """
        nonce = new_nonce()
        following = token.successor(nonce)
        if await store.refresh_families.rotate(
            token.family_hash, presented=token.hash, successor=following.hash, nonce=nonce, at=at
        ):
            return following
        family = await store.refresh_families.find(token.family_hash)
        if family is None:
            # It was there when we began to wait for the session, and a change of the password has
            # ended it meanwhile: that is nobody's theft, and the session lives on.
            raise InvalidGrant
        if family.nonce is None or self._is_reuse(family, token, at):
            return None
        return token.successor(family.nonce)

    def _is_reuse(self, family: RefreshFamily, token: RefreshToken, at: datetime) -> bool:
        """Whether `token` was exchanged before, and `at` is too late to be given its successor."""
        if family.current == token.hash:
            return False
        return (
            family.previous != token.hash
            or family.nonce is None
            or family.rotated_at is None
            or at - family.rotated_at > self._settings.refresh_grace
        )
