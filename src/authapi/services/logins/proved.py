"""What a login has proved: a first factor, or all that the account asks for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from authapi.clock import now
from authapi.domain.factors.values import SingleUse, UsedTicket
from authapi.domain.federation.proof import FederatedProof
from authapi.domain.user import User
from authapi.storage import Store


@dataclass(frozen=True, slots=True)
class Proved:
    """A user who has proved a first factor. It is not a login: `Logins.complete` decides."""

    user: User
    credentials_version: int
    """The number of changes of the credentials of the account when the factor was verified."""
    auth_time: datetime
    """When the factor was verified."""
    amr: tuple[str, ...]
    """The authentication methods (RFC 8176)."""
    scopes: frozenset[str] | None = None
    """The scopes of the credential; None stands for all that a login of the user has."""
    mfa_at: datetime | None = None
    """When a factor that counts as two was verified, such as a passkey; None for other factors."""
    second_factor: "SecondFactorUse | None" = field(default=None, repr=False, compare=False)
    """The use of such a factor; None for other factors."""
    federated: FederatedProof | None = None
    """What a provider has proved; None for other factors."""
    once: SingleUse | None = field(default=None, repr=False)
    """What is used up with the session, or with the ticket for a second factor; None if nothing."""


@dataclass(slots=True)
class SecondFactorUse:
    """A second factor that a login has proved, and that is used up with its session."""

    apply: Callable[[Store], Awaitable[None]]
    """Uses the factor up, in the transaction that begins the session. The user is locked.

    Raises LoginExpired, SecondFactorRefused or PasskeyRefused if another login has used it up, and
    the errors of adding a factor if the login adds one."""
    ends_logins: bool = False
    """Whether all other logins of the account end in that transaction, before `apply`."""
    is_applied: bool = False
    """Whether that transaction was committed."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user who has proved all that the account asks for. A strategy issues a credential for it.

    Only `services/logins/complete.py` creates one.
    """

    user: User
    credentials_version: int
    """The number of changes of the credentials of the account when the first factor was verified.
    After a further change, no session begins."""
    auth_time: datetime
    """When the user authenticated (the claim `auth_time` of OpenID Connect)."""
    amr: tuple[str, ...]
    """The authentication methods (RFC 8176)."""
    scopes: frozenset[str] | None = None
    """The scopes of the credential; None stands for all that a login of the user has."""
    mfa_at: datetime | None = None
    """When the second factor was verified; None without one."""
    second_factor: SecondFactorUse | None = field(default=None, repr=False, compare=False)
    """What is used up with the session, such as the second factor; None if nothing."""
    federated: FederatedProof | None = None
    """What a provider has proved; None if the first factor was another one."""


async def use_up(store: Store, once: SingleUse) -> bool:
    """Uses up what a login is used with; False if it was used, or has ended.

    Of several concurrent transactions, one gets True.
    """
    if isinstance(once, UsedTicket):
        return await store.login_tickets.consume(once.id, now=now())
    return await store.used_challenges.add(once)
