"""What a verified password leads to: a login, and the lifetime of its session."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from authapi.crypto.passwords import PasswordHash
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.storage import Store

RecordLogin: TypeAlias = Callable[[Store, User, Session], Awaitable[None]]
"""Records the login of a user, who is locked, in the transaction that creates its session."""


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
