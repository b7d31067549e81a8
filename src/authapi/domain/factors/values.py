"""Second factors of an account, and logins that wait for one."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from authapi.domain.factors.passkeys import UsedChallenge
from authapi.domain.federation.proof import FederatedProof

FACTOR_USE = "second factors 1"
"""The use of the cipher of second factors, which gives it a key of its own."""


NO_STEP = -1
"""Lower than every time step."""


class FactorMethod(StrEnum):
    """How a second factor is proved, with the names that the API has for it."""

    TOTP = "totp"
    """A code of an authenticator app (RFC 6238)."""
    PASSKEY = "passkey"
    """A passkey (WebAuthn)."""
    RECOVERY = "recovery"
    """One of the recovery codes of the account."""

    @property
    def amr(self) -> str:
        """The authentication method (RFC 8176 has no name for recovery codes)."""
        return {FactorMethod.TOTP: "otp", FactorMethod.PASSKEY: "pop"}.get(self, "recovery")


class TicketPurpose(StrEnum):
    """What a login waits for."""

    SECOND_FACTOR = "second_factor"
    """The account proves the second factor that it has."""
    ENROL = "enrol"
    """The account adds the second factor that it must have."""
    CODE = "code"
    """The application exchanges the code that a login at a provider has ended with."""


@dataclass(frozen=True, slots=True)
class TOTPFactor:
    """The authenticator app of an account, or an enrolment that is not confirmed yet."""

    id: UUID
    user_id: UUID
    secret: bytes = field(repr=False)
    """The encrypted secret."""
    last_step: int
    """The time step of the last accepted code; lower than every step if there is none."""
    session_id: UUID | None
    """The session, or the ticket of a login, that began the enrolment. None if the credential had
    no session."""
    credentials_version: int
    """The state of the account when the enrolment began."""
    failures: int
    """Wrong codes since the last right one."""
    owner_told_at: datetime | None
    """When the owner was last told of wrong codes."""
    created_at: datetime
    confirmed_at: datetime | None
    last_used_at: datetime | None
    expires_at: datetime | None
    """When an enrolment that is not confirmed ends; None if it is confirmed."""

    @classmethod
    def unused(
        cls,
        factor_id: UUID,
        user_id: UUID,
        secret: bytes,
        *,
        credentials_version: int,
        at: datetime,
        session_id: UUID | None = None,
        expires_at: datetime | None = None,
    ) -> "TOTPFactor":
        """Returns an app that was added at `at`, none of whose codes was used.

        With `expires_at`, it is an enrolment that waits for its confirmation.
        """
        return cls(
            id=factor_id,
            user_id=user_id,
            secret=secret,
            last_step=NO_STEP,
            session_id=session_id,
            credentials_version=credentials_version,
            failures=0,
            owner_told_at=None,
            created_at=at,
            confirmed_at=at if expires_at is None else None,
            last_used_at=None,
            expires_at=expires_at,
        )

    @property
    def context(self) -> str:
        """What the encrypted secret is bound to, so that another row cannot use it."""
        return totp_context(self.id)


def totp_context(factor_id: UUID) -> str:
    """Returns what the encrypted secret of this authenticator app is bound to."""
    return f"totp {factor_id}"


@dataclass(frozen=True, slots=True)
class LoginTicket:
    """A login whose first factor was proved, and that waits for its next step. It is no session."""

    id: UUID
    user_id: UUID
    purpose: TicketPurpose
    strategy: str
    """The name of the strategy that issues the credential."""
    remember: bool
    scopes: frozenset[str] | None
    """As in `Proved`."""
    amr: tuple[str, ...]
    """The methods of the first factor."""
    credentials_version: int
    attempts: int
    """The codes that were tried, counted before they were compared."""
    created_at: datetime
    expires_at: datetime
    federated: FederatedProof | None = None
    """What a provider has proved; None if the first factor was another one."""


@dataclass(frozen=True, slots=True)
class UsedTicket:
    """A ticket whose login goes on, to be used up."""

    id: UUID


SingleUse = UsedChallenge | UsedTicket
"""What a login uses up with its session, or with its next ticket."""


@dataclass(frozen=True, slots=True)
class RecoveryCodesLeft:
    """How many recovery codes of an account are unused, and when they were made."""

    left: int
    made_at: datetime
