"""Passkeys (WebAuthn Level 3): those of accounts, and what their authenticators send."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

CHALLENGE_LIFETIME = timedelta(minutes=5)
"""How long a client can answer a challenge."""
MAX_CREDENTIAL_ID = 1023
"""Bytes (WebAuthn Level 3, section 7.1, step 25)."""
MAX_PUBLIC_KEY = 1100
"""Bytes of a COSE key; an RSA key of 8,192 bits fits."""
_LOCALHOST = re.compile(r"http://localhost(:[1-9][0-9]{0,4})?")


class ChallengePurpose(IntEnum):
    """What a challenge is for. It serves nothing else."""

    REGISTER = 1
    LOGIN = 2
    SECOND_FACTOR = 3
    STEP_UP = 4


class Algorithm(IntEnum):
    """The algorithms of passkeys, with their numbers in COSE, the preferred one first."""

    EDDSA = -8
    ES256 = -7
    RS256 = -257


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """This service, as browsers and authenticators know it."""

    id: str
    """The domain that passkeys belong to."""
    name: str
    origins: frozenset[str]
    """The exact origins whose pages may use the passkeys."""
    allows_localhost: bool = False
    """Whether pages of localhost may, at every port."""

    def accepts(self, origin: str) -> bool:
        """Whether a page of `origin` may use the passkeys. The whole text is compared."""
        is_local = self.allows_localhost and _LOCALHOST.fullmatch(origin) is not None
        return origin in self.origins or is_local


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an authenticator answers to a registration (`AuthenticatorAttestationResponse`)."""

    credential_id: bytes
    client_data: bytes = field(repr=False)
    attestation_object: bytes = field(repr=False)
    transports: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an authenticator answers to a login (`AuthenticatorAssertionResponse`)."""

    credential_id: bytes
    client_data: bytes = field(repr=False)
    authenticator_data: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    user_handle: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that an authenticator has created, and whose attestation is verified."""

    credential_id: bytes
    public_key: bytes
    """A COSE key (RFC 9052)."""
    algorithm: Algorithm
    sign_count: int
    aaguid: UUID
    backup_eligible: bool
    backed_up: bool


@dataclass(frozen=True, slots=True)
class AuthenticatorState:
    """What an authenticator says about itself in an assertion whose signature is verified."""

    sign_count: int
    is_user_verified: bool
    backup_eligible: bool
    backed_up: bool


@dataclass(frozen=True, slots=True)
class UsedChallenge:
    """A challenge that was answered in time, to be used up."""

    digest: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey of an account."""

    id: UUID
    user_id: UUID
    credential_id: bytes
    public_key: bytes
    """A COSE key (RFC 9052)."""
    algorithm: int
    sign_count: int
    """The signature counter at the last use; synced passkeys have none, which is zero."""
    transports: tuple[str, ...]
    """How a browser can reach the authenticator, such as `internal` and `usb`."""
    aaguid: UUID
    """The model of the authenticator, by its own account. It is shown; nothing rests on it."""
    backup_eligible: bool
    """Whether the authenticator may copy the passkey to other devices. It never changes."""
    backed_up: bool
    """Whether a copy existed at the last use."""
    name: str
    created_at: datetime
    last_used_at: datetime | None
