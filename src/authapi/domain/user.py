"""A user account."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class User:
    """A snapshot of a user account."""

    id: UUID
    """UUIDv7. It is never reused."""
    email: str
    """The address in the spelling of its owner. It is unique in its canonical form."""
    name: str | None
    is_active: bool
    is_superuser: bool
    email_confirmed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    locale: str | None = None
    """The language of mails to the user; None for the default language of the service."""
    roles: frozenset[str] = frozenset()
    """Names of roles. The setting `roles` maps each to scopes."""
