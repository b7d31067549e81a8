"""A person as a provider describes them, and the identity that an account is linked to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

NO_CLAIMS: Mapping[str, object] = MappingProxyType({})
"""The claims of a person about whom the provider says nothing more."""
MAX_IDENTIFIER = 255
"""Maximum length of an issuer and of a subject, in characters (OpenID Connect Core 1.0, 2)."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person whom a provider has authenticated. (issuer, subject) identifies them, nothing else.

    Raises ValueError if the issuer or the subject is empty or longer than `MAX_IDENTIFIER`.
    """

    provider: str
    """The name of the provider in the settings."""
    issuer: str
    """The issuer as its tokens name it; for providers without ID tokens, a constant of ours."""
    subject: str
    """The identifier of the person at the issuer, which is never given to another person."""
    email: str | None = None
    """The address as the provider sent it; None if it sent none, or text that is no address."""
    email_verified: bool = False
    """Whether the provider says that it has verified the address."""
    is_authoritative: bool = False
    """Whether the provider has verified the address and is trusted to decide whose it is."""
    name: str | None = None
    """A name to show; None if the provider sent none."""
    auth_time: datetime | None = None
    """When the person authenticated at the provider; None if it does not say."""
    has_proved_mfa: bool = False
    """Whether the provider is trusted for second factors, and says that it asked for one."""
    claims: Mapping[str, object] = field(default_factory=lambda: NO_CLAIMS, hash=False, repr=False)
    """Everything that the provider says about the person, for hooks of the application."""

    def __post_init__(self) -> None:
        for text in (self.issuer, self.subject):
            if not 0 < len(text) <= MAX_IDENTIFIER:
                raise ValueError("an issuer and a subject have 1 to 255 characters")


@dataclass(frozen=True, slots=True)
class Provision:
    """What a hook `on_provision` decides about an account that is about to be created."""

    name: str | None = None
    """The name of the account; None for that of the provider."""
    roles: frozenset[str] | None = None
    """The roles of the account; None for those of the settings."""


@dataclass(frozen=True, slots=True)
class LinkedIdentity:
    """A person at a provider who may log in to an account."""

    id: UUID
    user_id: UUID
    provider: str
    issuer: str
    subject: str
    email: str | None
    """The address that the provider sent last. It never becomes the address of the account."""
    email_verified: bool
    name: str | None
    created_at: datetime
    last_login_at: datetime | None
