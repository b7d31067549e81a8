"""A flow: one visit of a browser to a provider, from its start to the callback."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class FlowIntent(StrEnum):
    """What a visit to a provider is for."""

    LOGIN = "login"
    """To log in, or to create an account."""
    LINK = "link"
    """To link the person at the provider to the account that is logged in."""
    STEP_UP = "step_up"
    """To prove again who is logged in."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What the service keeps of a visit, sealed in a cookie of the browser."""

    provider: str
    state: str = field(repr=False)
    """256 random bits, base64url. The provider returns it (RFC 6749, section 4.1.1)."""
    nonce: str = field(repr=False)
    """256 random bits, base64url. The ID token contains it (OpenID Connect Core 1.0, 3.1.2.1)."""
    verifier: str = field(repr=False)
    """The code verifier (RFC 7636), 43 characters."""
    intent: FlowIntent
    began_at: datetime
    expires_at: datetime
    strategy: str
    """The strategy that issues the credential."""
    remember: bool = False
    continue_to: str | None = None
    """Where the browser goes afterwards: a path of this host, or a URL of an allowed origin."""
    user_id: UUID | None = None
    """The account, for every intent but `LOGIN`."""
    session_id: UUID | None = None
    """The session of the account, for every intent but `LOGIN`."""
    credentials_version: int | None = None
    """The number of changes of its credentials when the flow began, for every intent but `LOGIN`.
    After a further change, the flow has no effect."""


@dataclass(frozen=True, slots=True)
class Callback:
    """What a provider sends back by the browser."""

    code: str = field(repr=False)
    """The authorization code."""
    issuer: str | None = None
    """The parameter `iss` (RFC 9207); None if it is missing."""
    user: str | None = field(default=None, repr=False)
    """The parameter `user` of Apple: unsigned JSON with a name, sent at the first login only."""
