"""Refresh token rotation with reuse detection (RFC 9700, section 4.14.2; OWASP ASVS 10.4.5).

The refresh tokens of one session form a family, and one of them is current. A client that presents
the current token rotates it: one compare-and-swap statement replaces it by its successor, so one of
several concurrent requests wins. The other requests, and a client that lost the response, present
the previous token. During `refresh_grace` they get the same successor again; it can only be derived
from the previous token and the nonce in the row together. So a second browser tab does not log the
user out and does not start a second chain. After the grace period, or with a token older than the
previous one, the token has been copied: its session ends with all tokens of it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from authapi.clock import now
from authapi.crypto.refresh_tokens import RefreshToken, new_nonce, parse_refresh_token
from authapi.domain.events import EventType
from authapi.domain.factors.policy import is_too_weak
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.errors import InvalidGrant, InvalidScope
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import LastUsed
from authapi.services.mail import Mail, MailKind
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict
from authapi.storage.tables.refresh_families import RefreshFamily, rotation


@dataclass(frozen=True, slots=True)
class RefreshedSession:
    """The result of a refresh: a session and its next refresh token."""

    user: User
    session: Session
    scopes: frozenset[str]
    """Of the access token to issue: those of the session, or fewer."""
    refresh_token: str = field(repr=False)
    at: datetime


class RefreshTokens:
    """Rotates refresh tokens and detects their reuse."""

    def __init__(
        self,
        database: Database,
        last_used: LastUsed,
        audit: Audit,
        mail: Mail,
        hooks: Hooks,
        settings: Settings,
    ) -> None:
        self._database = database
        self._last_used = last_used
        self._audit = audit
        self._mail = mail
        self._hooks = hooks
        self._settings = settings

    @retry_on_conflict
    async def refresh(
        self, refresh_token: str, *, scopes: Collection[str] | None = None
    ) -> RefreshedSession:
        """Rotates `refresh_token` and returns its session with the next refresh token.

        `scopes` is a subset of what the session grants now; None means all of it. The use counts
        as a use of the session.

        Raises InvalidScope if `scopes` exceeds the session (the token is not rotated then),
        InvalidGrant if the token is unknown, expired or reused, the account is deactivated, or
        `mfa=required` refuses its login by one factor,
        StorageUnavailable if the database does not answer.
        """
        token = parse_refresh_token(refresh_token)
        if token is None:
            raise InvalidGrant
        row = await self._database.sessions.find_by_family(token.family_hash)
        if row is None:
            raise InvalidGrant
        session, user = row
        own = await self._hooks.own_scopes(user) if self._hooks.adds_scopes else None
        at = now()
        granted = self._granted(session, user, own, scopes, at)
        successor = await self._rotate(token, at)
        if successor is None:
            # Another transaction has locked the session, or the token is not the current one.
            async with self._database.transaction() as store:
                # The session is locked before its family, as in every transaction. The user need
                # not be locked: this transaction locks nothing else but the family.
                row = await store.sessions.lock_by_family(token.family_hash)
                if row is None:
                    raise InvalidGrant
                (session, user), at = row, now()
                granted = self._granted(session, user, own, scopes, at)
                successor = await self._rotate_locked(store, token, at)
        if successor is None:
            await self._end_reused_session(token, at)
            raise InvalidGrant
        self._last_used.record(session.id, at, idle=self._settings.refresh_idle)
        return RefreshedSession(user, session, granted, successor.text, at)

    def _granted(
        self,
        session: Session,
        user: User,
        own: frozenset[str] | None,
        scopes: Collection[str] | None,
        at: datetime,
    ) -> frozenset[str]:
        """Returns the scopes to grant. Raises InvalidGrant and InvalidScope as `refresh`."""
        if self._last_used.is_over(session, at) or not user.is_active:
            raise InvalidGrant
        if is_too_weak(session.amr, self._settings):
            raise InvalidGrant
        held = effective_scopes(session.scopes, user, self._settings, own, amr=session.amr)
        granted = held if scopes is None else frozenset(scopes)
        if not granted <= held:
            raise InvalidScope
        return granted

    async def _end_reused_session(self, token: RefreshToken, at: datetime) -> None:
        """Ends the session of `token`, which was reused at `at`, and mails its owner.

        This takes a second transaction, because the mail needs a lock on the user, and users are
        locked before sessions. The first transaction changed nothing, so the family is read again.
        """
        async with self._database.transaction() as store:
            row = await store.sessions.find_by_family(token.family_hash)
            if row is None or await store.users.lock(row[1].id) is None:
                return
            row = await store.sessions.lock_by_family(token.family_hash)
            family = await store.refresh_families.find(token.family_hash)
            if row is None or family is None or not self._is_reuse(family, token, at):
                return  # another transaction has ended the session or its family
            session, user = row
            await store.sessions.end(session.id)
            await self._audit.record(
                store,
                EventType.REFRESH_REUSE,
                user_id=user.id,
                session_id=session.id,
                strategy=session.kind.value,
            )
            await self._mail.queue(store, MailKind.REFRESH_REUSE, user)

    async def _rotate(self, token: RefreshToken, at: datetime) -> RefreshToken | None:
        """Returns the successor of `token`, or None if one statement cannot rotate it.

        It compares and swaps, so that only one of several concurrent calls succeeds.
        """
        nonce = new_nonce()
        successor = token.successor(nonce)
        values = {
            "family": token.family_hash,
            "current": token.hash,
            "successor": successor.hash,
            "token_nonce": nonce,
            "at": at,
        }
        rotated = await self._database.change(rotation(self._database.tables), values)
        return successor if rotated else None

    async def _rotate_locked(
        self, store: Store, token: RefreshToken, at: datetime
    ) -> RefreshToken | None:
        """Returns the successor of `token`, or None if `token` is reused after the grace period.

        Raises InvalidGrant if the family ended while this transaction waited for its lock.
        """
        nonce = new_nonce()
        successor = token.successor(nonce)
        if await store.refresh_families.rotate(
            token.family_hash, current=token.hash, successor=successor.hash, nonce=nonce, at=at
        ):
            return successor
        family = await store.refresh_families.find(token.family_hash)
        if family is None:
            # A change of the password ended the family while this transaction waited for the lock
            # on the session. That is no reuse, and the session stays.
            raise InvalidGrant
        if family.nonce is None or self._is_reuse(family, token, at):
            return None
        return token.successor(family.nonce)

    def _is_reuse(self, family: RefreshFamily, token: RefreshToken, at: datetime) -> bool:
        """Whether `token` was used before and `at` is after its grace period."""
        if family.current == token.hash:
            return False
        return (
            family.previous != token.hash
            or family.nonce is None
            or family.rotated_at is None
            or at - family.rotated_at > self._settings.refresh_grace
        )
