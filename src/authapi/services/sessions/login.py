"""What a verified password leads to: a login, and the lifetime of its session."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from authapi.crypto.passwords import PasswordHash
from authapi.domain.user import User


@dataclass(frozen=True, slots=True)
class Login:
    """A user whose password was verified. A strategy issues a credential for it."""

    user: User
    verified_hash: PasswordHash = field(repr=False)
    """The hash that the password was verified against."""
    auth_time: datetime
    """When the password was verified (the claim `auth_time` of OpenID Connect)."""
    amr: tuple[str, ...] = ("pwd",)
    """The authentication methods (RFC 8176)."""
    scopes: frozenset[str] | None = None
    """The scopes of the credential; None stands for all that a login of the user has."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lasts: `absolute` at most, and `idle` without use if it is not None."""

    absolute: timedelta
    idle: timedelta | None = None
    remembered: bool = False
    """Whether the browser keeps the cookie after it is closed."""
