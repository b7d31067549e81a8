"""A user account."""

from dataclasses import dataclass, fields
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


@dataclass(frozen=True, slots=True)
class UserWithProfile(User):
    """A user with the members that the application adds to accounts (`authapi.Profile`)."""

    profile: object = None
    """An instance of the model `read` of the application; None if the account has no row."""

    @classmethod
    def of(cls, user: User, profile: object) -> "UserWithProfile":
        """Returns `user` with this profile."""
        members = {field.name: getattr(user, field.name) for field in fields(User)}
        return cls(**members, profile=profile)
