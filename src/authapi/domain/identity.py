"""An authenticated caller, and the claims of its issuer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from authapi.domain.factors.authentication_context import acr_of, acr_of_claims
from authapi.domain.user import User

FIRST_PARTY_CLIENT_ID = "authapi"
"""The `client_id` of all tokens that authapi issues (RFC 9068, section 2.2). At a login to authapi,
the service itself is the OAuth client, and a token exchange keeps the value."""


class Claims(Mapping[str, object]):
    """The claims of an issuer about a caller (RFC 7519, section 4), as an immutable mapping.

    Nested objects are `Claims` and arrays are tuples, because many requests share one identity.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = {name: _frozen(value) for name, value in members.items()}

    def __getitem__(self, name: str) -> object:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __deepcopy__(self, _: object) -> "Claims":
        return self

    def __repr__(self) -> str:
        # Names without values: the values are personal data, and reprs end up in logs.
        return f"Claims({', '.join(self._members)})"


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return Claims(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


NO_CLAIMS = Claims({})


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller, and how it was authenticated."""

    user: User
    strategy: str
    """The name of the strategy that authenticated the caller."""
    session_id: UUID | None
    """The session of the credential; None if it has none, as HTTP Basic."""
    scopes: frozenset[str]
    auth_time: datetime
    amr: tuple[str, ...]
    expires_at: datetime | None
    """When the credential expires at the latest; None if it does not expire."""
    claims: Mapping[str, object] = field(default_factory=lambda: NO_CLAIMS, hash=False)
    """The verified claims of another issuer; empty for credentials that authapi issued."""
    remembered: bool = False
    """Whether the cookie is persistent, so that it survives closing the browser."""
    key_id: str | None = None
    """The `kid` of the key of this service that signed the credential; None if it is not signed."""
    mfa_at: datetime | None = None
    """When the user last proved a second factor in this session; None if the user has not."""

    @property
    def acr(self) -> str | None:
        """The context class of the login (`domain/authentication_context`); None without `amr`.

        For a caller of another issuer, the one that its claim `acr` names; None if it is unknown.
        """
        return acr_of_claims(self.claims, self.amr) if self.claims else acr_of(self.amr)
