"""Registration of passkeys: the options for a browser, and the verification of its answer.

`verify` checks an answer, and `insert` uses its challenge up in the transaction that adds the
passkey. A caller adds one in a session, and a login adds one that its account must have.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from authapi.clock import now
from authapi.crypto.factors.challenges import Challenges
from authapi.crypto.factors.webauthn import read_client_data, verify_attestation
from authapi.crypto.ids import new_id
from authapi.domain.factors.passkeys import (
    Attestation,
    ChallengePurpose,
    NewCredential,
    Passkey,
    RelyingParty,
    UsedChallenge,
)
from authapi.domain.user import User
from authapi.errors import (
    FactorExists,
    MFADisabled,
    PasskeyMismatch,
    TooManyFactors,
    UnconfirmedEmail,
    WrongPasskey,
)
from authapi.services.audit import Audit
from authapi.services.factors.webauthn.assertions import record_refusal
from authapi.services.factors.webauthn.relying_party import relying_party_of, require_origin
from authapi.settings import Settings
from authapi.storage import Store

_HANDLE_BYTES = 32


@dataclass(frozen=True, slots=True)
class CreationOptions:
    """What a browser needs to create a passkey (`PublicKeyCredentialCreationOptions`)."""

    challenge: bytes
    relying_party: RelyingParty
    user: User
    handle: bytes
    """What the authenticator knows the account by."""
    existing: Sequence[Passkey]
    """Those that an authenticator must not have already."""


@dataclass(frozen=True, slots=True)
class VerifiedPasskey:
    """A new passkey whose attestation was verified, and that is to be added."""

    passkey: Passkey
    challenge: UsedChallenge


class PasskeyRegistration:
    """Verifies new passkeys, for a session or a login that `binding` names.

    `challenges` returns the challenges of the service. Each method that reads or writes raises
    StorageUnavailable if the database does not answer.
    """

    def __init__(
        self,
        challenges: Callable[[], Challenges],
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._challenges = challenges
        self._audit = audit
        self._settings = settings

    def require_available(self, origin: str | None) -> RelyingParty:
        """Returns the relying party for a page of `origin`; None stands for a client without pages.

        Raises PasskeysUnavailable and MFADisabled.
        """
        relying_party = require_origin(self._settings, origin)
        self._check_enabled()
        return relying_party

    async def options(
        self, store: Store, user: User, relying_party: RelyingParty, *, binding: str
    ) -> CreationOptions:
        """Returns the options for a new passkey of a locked user.

        Raises TooManyFactors, and UnconfirmedEmail where mail is sent and the address is not
        confirmed: the account may be registered with the address of another person, whom the factor
        would keep out.
        """
        existing = await self._check_may_add(store, user)
        handle = await store.passkeys.handle(user.id, os.urandom(_HANDLE_BYTES))
        challenge = self._challenges().issue(ChallengePurpose.REGISTER, binding, at=now())
        return CreationOptions(challenge, relying_party, user, handle, existing)

    async def verify(
        self, attestation: Attestation, name: str, *, user_id: UUID, binding: str
    ) -> VerifiedPasskey:
        """Verifies the passkey that an authenticator has created for the options of `binding`.

        A refusal by its attestation is recorded. Raises WrongPasskey, also if the challenge has
        expired; PasskeysUnavailable; MFADisabled.
        """
        relying_party = relying_party_of(self._settings)
        self._check_enabled()
        try:
            challenge = self._challenges().check(
                read_client_data(attestation.client_data).challenge,
                ChallengePurpose.REGISTER,
                binding,
                at=now(),
            )
        except PasskeyMismatch:
            raise WrongPasskey from None
        try:
            credential = await asyncio.to_thread(verify_attestation, attestation, relying_party)
        except PasskeyMismatch as refusal:
            await record_refusal(self._audit, user_id, refusal.reason)
            raise WrongPasskey from None
        return VerifiedPasskey(_passkey(user_id, credential, attestation, name), challenge)

    async def insert(self, store: Store, user: User, verified: VerifiedPasskey) -> None:
        """Adds a verified passkey to the account of a locked user.

        Raises FactorExists if an account has the passkey, TooManyFactors and UnconfirmedEmail. The
        caller uses the challenge up with `use_up`, after the rows of the factor.
        """
        await self._check_may_add(store, user)
        if not await store.passkeys.add(verified.passkey):
            raise FactorExists

    async def use_up(self, store: Store, verified: VerifiedPasskey) -> None:
        """Uses the challenge of a passkey up. Raises WrongPasskey if it was used before."""
        if not await store.used_challenges.add(verified.challenge):
            raise WrongPasskey

    def _check_enabled(self) -> None:
        if self._settings.mfa == "off":
            raise MFADisabled

    async def _check_may_add(self, store: Store, user: User) -> Sequence[Passkey]:
        if self._settings.sends_mail and user.email_confirmed_at is None:
            raise UnconfirmedEmail
        existing = await store.passkeys.list_for_user(user.id)
        if len(existing) >= self._settings.max_passkeys:
            raise TooManyFactors
        return existing


def _passkey(
    user_id: UUID, credential: NewCredential, attestation: Attestation, name: str
) -> Passkey:
    return Passkey(
        id=new_id(),
        user_id=user_id,
        credential_id=credential.credential_id,
        public_key=credential.public_key,
        algorithm=credential.algorithm,
        sign_count=credential.sign_count,
        transports=tuple(attestation.transports),
        aaguid=credential.aaguid,
        backup_eligible=credential.backup_eligible,
        backed_up=credential.backed_up,
        name=name,
        created_at=now(),
        last_used_at=None,
    )
