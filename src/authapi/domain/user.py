"""A user account, and a search for accounts: its conditions, its order, and where a page begins."""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
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
    username: str | None = None
    """The user name in the case that its owner chose. It is unique in its canonical form."""
    mfa_since: datetime | None = None
    """Since when the account has a second factor; None if it has none."""

    @property
    def mfa(self) -> bool:
        """Whether the account has a second factor, which each of its logins must prove."""
        return self.mfa_since is not None

    def may_log_in(self, *, must_confirm: bool) -> bool:
        """Whether the account may log in at all, by any factor: it is active.

        With `must_confirm`, its address must be confirmed too.
        """
        return self.is_active and (self.email_confirmed_at is not None or not must_confirm)


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


class UserOrder(StrEnum):
    """The sort order of a list of accounts; a minus means descending."""

    OLDEST = "created_at"
    NEWEST = "-created_at"
    EMAIL = "email"
    EMAIL_DESCENDING = "-email"


@dataclass(frozen=True, slots=True)
class UserFilter:
    """The conditions of a search for accounts; None matches every account."""

    email_prefix: str | None = None
    """A prefix of the canonical address."""
    active: bool | None = None
    confirmed: bool | None = None
    superuser: bool | None = None
    role: str | None = None
    username_prefix: str | None = None
    """A prefix of the canonical user name."""


@dataclass(frozen=True, slots=True)
class UserPosition:
    """The last account of the previous page. It may have been deleted since."""

    id: UUID
    created_at: datetime | None = None
    """Set in a list that is sorted by age."""
    email: str | None = None
    """The canonical address; set in a list that is sorted by address."""
