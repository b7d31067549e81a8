"""A login session, or a personal access token."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from authapi.domain.client import Client


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
