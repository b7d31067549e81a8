"""The frozen values that say who is calling: `User`, `Session` and `Identity`.

They are snapshots, safe to keep in memory and to hand to other threads; never database rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


@dataclass(frozen=True, slots=True)
class User:
    """An account, as it was when it was read."""

    id: UUID
    """UUIDv7; never given to anybody else."""
    email: str
    """The address as its owner wrote it; two spellings of one address cannot both exist."""
    name: str | None
    is_active: bool
    is_superuser: bool
    email_confirmed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class SessionKind(StrEnum):
    """The envelope that a session travels in."""

    SESSION = "session"
    """A secret in a cookie."""
    TOKEN = "token"
    """An opaque bearer token."""
    JWT = "jwt"
    """A signed token whose `sid` claim names the row."""


@dataclass(frozen=True, slots=True)
class Client:
    """Where a login came from, as far as the connection tells."""

    ip: str | None = None
    user_agent: str | None = None
    """At most 255 characters."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login session: what a credential stands for. The credential itself is never part of it."""

    id: UUID
    user_id: UUID
    kind: SessionKind
    name: str | None
    """What its owner calls it: set for personal access tokens, else None."""
    scopes: frozenset[str]
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime | None
    """When it ends if it is not used again; None where idleness does not end it."""
    expires_at: datetime
    """When it ends however much it is used."""
    auth_time: datetime
    """When its owner last proved who they are."""
    amr: tuple[str, ...]
    """How they proved it, in the words of RFC 8176."""
    client: Client
    data: Mapping[str, object]
    """What the application keeps for the length of this session."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, and how that was proved."""

    user: User
    strategy: str
    """The name of the strategy that recognised the caller."""
    session_id: UUID | None
    """The session behind the credential; None where there is none, as with HTTP Basic."""
    scopes: frozenset[str]
    auth_time: datetime
    amr: tuple[str, ...]
    expires_at: datetime | None
    """When this credential stops working at the latest; None if it does not expire."""
