"""Identities of recently authenticated credentials, so that the next request costs no query.

The cache is a bounded map from the hash of a credential to what the database returned for it. It
only answers hits. The caller queries the database for every miss: an unknown credential, an expired
entry, or an entry that may be out of date.

A hit is never out of date with respect to a committed change that this process has been notified
of. The cache keeps a counter, the *version*, which every change increments:

1. A reader takes `snapshot()`, the present version, *before* its query, and passes it to `put()`.
2. A change calls `invalidate()` *after* its commit. The new version is stored as the minimum
   version of each changed user.
3. An entry is valid only while its snapshot is not below the minimum version of its user.

This covers every interleaving of one read and one change:

* A read whose snapshot was taken after `invalidate()` sees the committed change. Its snapshot is
  at least the minimum version, so the entry is valid.
* A read whose snapshot was taken earlier may have missed the change. Its snapshot is below the
  minimum version, so the entry is rejected, whether `put()` ran before `invalidate()` or long after
  it.

The process that made a change calls `invalidate()` before it answers the request. Other processes
call it when they receive the notification (`invalidation`); a process that cannot receive
notifications does not use its cache. Minimum versions of single users are discarded only together
with all entries (`clear()`). `tests/services/identity_cache/test_invalidation_model.py` runs
through the interleavings.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from authapi.domain.identity import Identity
from authapi.storage.notifications import ALL_USERS

_MAX_USER_VERSIONS = 65_536
"""Number of changed users whose minimum version is kept. One more clears the whole cache."""


@dataclass(slots=True)
class CachedIdentity:
    """What the database returned for a credential."""

    identity: Identity
    session_id: UUID
    expires_at: datetime
    """When the credential expires, whether it is used or not."""
    idle: timedelta | None
    """Time without use after which the session expires; None for no idle timeout."""
    last_seen_at: datetime
    recorded_at: datetime | None = field(default=None, compare=False)
    """When this process last recorded a use. The only field that changes."""


@dataclass(frozen=True, slots=True)
class _Entry:
    cached: CachedIdentity
    snapshot: int
    stored_at: float


class IdentityCache:
    """Up to `size` identities, each for `ttl` at most. A size of 0 disables the cache.

    `ttl` bounds how long the cache misses a change without a notification, such as a row that an
    operator edits by hand.
    """

    def __init__(self, *, size: int, ttl: timedelta) -> None:
        # Ordered by insertion, which is also the order of expiry and of eviction. An LRU order
        # would move an entry at each hit, for little: no entry outlives `ttl` anyway.
        self._entries: dict[bytes, _Entry] = {}
        self._size = size
        self._ttl = ttl.total_seconds()
        self._version = 0
        self._user_versions: dict[UUID, int] = {}
        self._flushed_at = 0
        """The minimum version of all users that are not in `_user_versions`."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, credential: bytes) -> CachedIdentity | None:
        """Returns the identity stored for the hash `credential`, or None if there is no valid one.

        An invalid entry is removed.
        """
        entry = self._entries.get(credential)
        if entry is None:
            return None
        # Most hits need no second look-up: nothing has changed since the entry was read.
        if (
            entry.snapshot < self._version
            and entry.snapshot < self._min_version(entry.cached.identity.user.id)
        ) or time.monotonic() - entry.stored_at > self._ttl:
            del self._entries[credential]
            return None
        return entry.cached

    def snapshot(self) -> int:
        """Returns the present version. Take it before the query whose result goes to `put()`."""
        return self._version

    def put(self, credential: bytes, cached: CachedIdentity, *, snapshot: int) -> None:
        """Stores `cached` under the hash `credential`, replacing the entry of that hash.

        Does nothing if the user has changed since `snapshot`. Evicts the oldest entry if the cache
        is full.
        """
        if not self._size or snapshot < self._min_version(cached.identity.user.id):
            return
        self._entries.pop(credential, None)
        if len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[credential] = _Entry(cached, snapshot, time.monotonic())

    def invalidate(self, users: Collection[UUID]) -> None:
        """Invalidates the entries of these users; `ALL_USERS` among them clears the cache.

        Call it after the change of a user, or of one of the user's sessions, is committed.
        """
        if ALL_USERS in users:
            self.clear()
            return
        self._version += 1
        for user in users:
            self._user_versions[user] = self._version
        if len(self._user_versions) > _MAX_USER_VERSIONS:
            self.clear()

    def has_changed(self, user: UUID, *, since: int) -> bool:
        """Returns whether the user may have changed since the snapshot `since`."""
        return since < self._version and since < self._min_version(user)

    @property
    def flushed_at(self) -> int:
        """The version of the last `clear()`. Data read under a lower snapshot may be out of date,
        whichever user it belongs to.
        """
        return self._flushed_at

    def clear(self) -> None:
        """Removes all entries, and invalidates all reads that are in progress."""
        self._version += 1
        self._flushed_at = self._version
        self._user_versions.clear()
        self._entries.clear()

    def _min_version(self, user: UUID) -> int:
        return self._user_versions.get(user, self._flushed_at)
