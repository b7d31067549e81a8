"""An entry of the outbox."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

OUTBOX_USE: Final = "outbox 1"
"""The `use` of the cipher that encrypts payloads (`crypto/encryption`)."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A job that runs at least once after the commit of the transaction that created it."""

    id: UUID
    """The same in every attempt."""
    kind: str
    """Which worker runs it, such as mail or webhooks."""
    purpose: str
    user_id: UUID | None
    payload: bytes = field(repr=False)
    """Encrypted, with `context` as the associated data."""
    created_at: datetime
    due_at: datetime
    expires_at: datetime
    """The end of all attempts."""
    attempts: int = 0
    error: str | None = None
    """The reason for the last failure. It contains no address and no secret."""
    failed_at: datetime | None = None
    receiver: str = ""
    """The receiver, as a digest or a name; empty if the kind has a single receiver."""

    @property
    def context(self) -> str:
        """What the encrypted payload is bound to: this entry."""
        return f"outbox {self.id}"


@dataclass(frozen=True, slots=True)
class OutboxCount:
    """How many entries of one kind and one receiver are pending, or have failed."""

    receiver: str
    has_failed: bool
    """Whether these entries are those whose attempts have ended."""
    entries: int
    oldest_at: datetime
    """When the oldest of them was queued."""
