"""The encryption of outbox payloads: under a key of its own, and each bound to its entry."""

from uuid import UUID

OUTBOX_USE = "outbox 1"
"""The `use` of the cipher that encrypts outbox payloads."""


def outbox_context(entry_id: UUID) -> str:
    """Returns the associated data of an encrypted outbox payload, which names its entry."""
    return f"outbox {entry_id}"
