"""Whether callers that were authenticated earlier would be authenticated now.

A connection that stays open, such as a WebSocket, outlives the check of its request. `Liveness`
repeats that check for any number of callers with two statements at most, and without their
credentials: an identity names its session, its account and the key that signed it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.secrets import SecretHash
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.services.identity_cache import CacheInvalidation, IdentityCache, LastUsed
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.tables.callers import CallerSession

_CHECKS_PER_STALENESS = 4


@dataclass(frozen=True, slots=True)
class Life:
    """The state of a caller that is still valid."""

    ends_at: datetime | None
    """When the credential expires in any case; None if it does not expire."""
    idle: timedelta | None
    """Time without use after which the session expires; None for no idle timeout."""
    idle_ends_at: datetime | None
    """When the session expires if it is not used before."""
    bound_to: SecretHash | int | None
    """The secret of the session, or the version of the password of a caller without a session. A
    different one at a later check means that the credential of the caller was replaced."""


@dataclass(frozen=True, slots=True)
class CheckedIdentity:
    """An identity that was found to be live, and what the answer depends on."""

    identity: Identity
    life: Life
    snapshot: int
    checked_at: float
    """On the monotonic clock."""


class Liveness:
    """Checks callers in the database, and tells when a check may be out of date.

    `interval`, `max_staleness` and `max_age` are seconds. A process learns of changes by other
    processes as its identity cache does, within `max_staleness`. Every `interval`, `is_current` has
    to be called. A result is repeated after `max_age`, also without a notification.
    """

    def __init__(
        self,
        database: Database,
        identity_cache: IdentityCache,
        invalidation: CacheInvalidation,
        last_used: LastUsed,
        settings: Settings,
    ) -> None:
        self._database = database
        self._identity_cache = identity_cache
        self._invalidation = invalidation
        self._last_used = last_used
        # Without a cache, this process does not listen for changes.
        self._is_notified = settings.identity_cache_size > 0
        self.max_staleness = settings.identity_cache_max_staleness.total_seconds()
        self.interval = self.max_staleness / _CHECKS_PER_STALENESS
        self.max_age = max(settings.identity_cache_ttl.total_seconds(), self.max_staleness)

    def is_current(self) -> bool:
        """Whether this process has heard of all changes. It may clear the identity cache first."""
        return self._is_notified and self._invalidation.is_current()

    async def find(self, identities: Sequence[Identity]) -> Sequence[Life | None]:
        """Returns the state of each of these callers, or None for one that is not valid any more.

        Raises StorageUnavailable.
        """
        sessions: dict[UUID, CallerSession] = {}
        versions: dict[UUID, int] = {}
        keys = {identity.key_id for identity in identities if identity.key_id is not None}
        async with self._database.read() as store:
            if ids := [item.session_id for item in identities if item.session_id is not None]:
                sessions = await store.callers.find_sessions(ids)
            if users := [item.user.id for item in identities if item.session_id is None]:
                versions = await store.callers.find_credentials_versions(users)
            if keys:
                keys = await store.callers.find_keys(keys)
        found: list[Life | None] = []
        for identity in identities:
            if identity.key_id is not None and identity.key_id not in keys:
                found.append(None)
            elif identity.session_id is None:
                version = versions.get(identity.user.id)
                found.append(
                    None if version is None else Life(identity.expires_at, None, None, version)
                )
            else:
                found.append(self._life(sessions.get(identity.session_id), identity))
        return found

    def _life(self, session: CallerSession | None, identity: Identity) -> Life | None:
        if session is None or session.user_id != identity.user.id:
            return None
        proved = (session.auth_time, session.mfa_at)
        if session.kind is SessionKind.SESSION and proved != (identity.auth_time, identity.mfa_at):
            return None  # the browser has received a new secret; the caller has the old one
        assert identity.session_id is not None  # noqa: S101  # the session was found by it
        idle_ends_at, at = None, now()
        if session.idle is not None:
            seen = self._last_used.last_seen(identity.session_id, session.last_seen_at)
            idle_ends_at = seen + session.idle
        ends_at = min(session.expires_at, identity.expires_at or session.expires_at)
        if at >= ends_at or (idle_ends_at is not None and at >= idle_ends_at):
            return None
        return Life(ends_at, session.idle, idle_ends_at, session.secret_hash)

    def record_use(self, identity: Identity, life: Life) -> None:
        """Records a use of the session of a caller, which postpones its idle timeout."""
        if identity.session_id is not None:
            self._last_used.record(identity.session_id, now(), idle=life.idle)

    async def check(
        self, identity: Identity, *, last: CheckedIdentity | None
    ) -> CheckedIdentity | None:
        """Returns the caller as checked, or None if it is not valid any more.

        `last` is the previous result, which is returned again if nothing can have changed since.
        Raises StorageUnavailable.
        """
        same = last if last is not None and last.identity == identity else None
        if same is not None and self._is_up_to_date(same):
            return same
        snapshot, at = self._identity_cache.snapshot(), time.monotonic()
        (life,) = await self.find([identity])
        if life is None or (same is not None and same.life.bound_to != life.bound_to):
            return None
        return CheckedIdentity(identity, life, snapshot, at)

    def _is_up_to_date(self, last: CheckedIdentity) -> bool:
        at, life = now(), last.life
        return (
            self.is_current()
            and not self._identity_cache.has_changed(last.identity.user.id, since=last.snapshot)
            and time.monotonic() - last.checked_at < self.max_age
            and (life.ends_at is None or at < life.ends_at)
            and (life.idle_ends_at is None or at < life.idle_ends_at)
        )
