"""A signing key as it is stored, and its state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class KeyState(StrEnum):
    """The state of a signing key."""

    NEXT = "next"
    """Published, but does not sign yet, so that other services load it before its first use."""
    ACTIVE = "active"
    """Signs."""
    RETIRED = "retired"
    """Does not sign any more. Tokens that it signed stay valid until they expire."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as stored in the database."""

    kid: str
    algorithm: str
    state: KeyState
    public_jwk: Mapping[str, str]
    private_key: bytes | None = field(repr=False)
    """Encrypted PKCS #8; None for a retired key."""
    created_at: datetime
    """The start of its publication."""
    activated_at: datetime | None = None
    retired_at: datetime | None = None
    published_until: datetime | None = None
    """The expiry of the last token that it signed; set when it is retired."""
