"""What was found out of a credential a moment ago, so that it costs nothing the next time."""

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
    until: float
    expires_at: datetime | None


class Memory(Generic[T]):
    """Up to `size` values by the hash of a credential, each for `longest` at most."""

    def __init__(self, *, size: int, longest: timedelta) -> None:
        self._entries: dict[SecretHash, _Entry[T]] = {}
        self._size = size
        self._longest = longest.total_seconds()

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, credential: SecretHash) -> T | None:
        """What was kept for the credential with this hash, if that is still good."""
        entry = self._entries.get(credential)
        if entry is None:
            return None
        if monotonic() >= entry.until or (
            entry.expires_at is not None and now() >= entry.expires_at
        ):
            del self._entries[credential]
            return None
        return entry.value

    def keep(self, credential: SecretHash, value: T, *, expires_at: datetime | None = None) -> None:
        """Keep a value, in place of the oldest if there are too many."""
        if not self._size or self._longest <= 0:
            return
        self._entries.pop(credential, None)
        if len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[credential] = _Entry(value, monotonic() + self._longest, expires_at)

    def forget(self) -> None:
        """Forget everybody."""
        self._entries.clear()
