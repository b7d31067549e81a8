"""A bounded in-memory cache of verification results, keyed by the hash of a credential."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Generic, TypeVar

from authapi.clock import now
from authapi.crypto.secrets import SecretHash

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    value: T
    stale_at: float
    """On the monotonic clock."""
    expires_at: datetime | None


class TTLCache(Generic[T]):
    """Holds up to `size` values, each for at most `ttl`. A size or a TTL of 0 disables it."""

    def __init__(self, *, size: int, ttl: timedelta) -> None:
        self._entries: dict[SecretHash, _Entry[T]] = {}
        self._size = size
        self._ttl = ttl.total_seconds()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, credential: SecretHash) -> T | None:
        """Returns the value for this credential hash, or None if it is missing or expired."""
        entry = self._entries.get(credential)
        if entry is None:
            return None
        if monotonic() >= entry.stale_at or (
            entry.expires_at is not None and now() >= entry.expires_at
        ):
            del self._entries[credential]
            return None
        return entry.value

    def put(self, credential: SecretHash, value: T, *, expires_at: datetime | None = None) -> None:
        """Stores a value until its TTL or `expires_at`. A full cache evicts its oldest value."""
        if not self._size or self._ttl <= 0:
            return
        self._entries.pop(credential, None)
        if len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[credential] = _Entry(value, monotonic() + self._ttl, expires_at)

    def clear(self) -> None:
        """Removes all values."""
        self._entries.clear()
