"""A search for accounts: its conditions, its order, and where a page begins."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


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


@dataclass(frozen=True, slots=True)
class UserPosition:
    """The last account of the previous page. It may have been deleted since."""

    id: UUID
    created_at: datetime | None = None
    """Set in a list that is sorted by age."""
    email: str | None = None
    """The canonical address; set in a list that is sorted by address."""
