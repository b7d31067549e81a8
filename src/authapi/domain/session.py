"""A login session, or a personal access token."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from authapi.domain.client import Client

FLASH = "_flash"
"""The member of the data of a session with the message that a page shows next."""
USED_FORMS = "_forms"
"""The member of the data of a session with the forms that were sent, and must not be sent again."""
OF_PAGES = frozenset({FLASH, USED_FORMS})
"""The members that belong to the pages. The API does not show them."""


class SessionKind(StrEnum):
    """The form of the credential that belongs to a session."""

    SESSION = "session"
    """A secret in a cookie."""
    TOKEN = "token"
    """An opaque bearer token."""
    JWT = "jwt"
    """A signed token whose claim `sid` is the id of the session."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login session or a personal access token. It never contains the credential itself."""

    id: UUID
    user_id: UUID
    kind: SessionKind
    name: str | None
    """The name that the owner gave to a personal access token; None for logins."""
    scopes: frozenset[str] | None
    """The granted scopes; None for a login, which has all scopes that its user has at the time of
    use (see `domain/scopes`)."""
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime | None
    """When it expires if it is not used again; None if it has no idle timeout."""
    expires_at: datetime
    """When it expires in any case (absolute timeout)."""
    auth_time: datetime
    """When the user last authenticated."""
    amr: tuple[str, ...]
    """The authentication methods, as names of RFC 8176; empty for personal access tokens."""
    client: Client
    data: Mapping[str, object]
    """Data of the application, stored for the lifetime of the session."""
    remembered: bool = False
    """Whether the cookie is persistent, so that it survives closing the browser."""
    mfa_at: datetime | None = None
    """When the user last proved a second factor in this session; None if the user has not."""

    @property
    def idle(self) -> timedelta | None:
        """The idle timeout, or None."""
        expires_at = self.idle_expires_at
        return None if expires_at is None else expires_at - self.last_seen_at


def size_of_data(data: Mapping[str, object]) -> int:
    """Returns the size of the data of a session as JSON, in bytes.

    Members of the pages are short, and do not count: the application does not see them.
    """
    own = {name: value for name, value in data.items() if name not in OF_PAGES}
    return len(json.dumps(own, separators=(",", ":"), ensure_ascii=False).encode())
