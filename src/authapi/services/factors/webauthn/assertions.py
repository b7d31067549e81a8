"""Proofs of passkeys: the options for a browser, the verification of its answer, and its use.

`verify` checks an answer, and `use_up` uses its challenge up in the transaction of what it allows.
Between the two, another request may use the same challenge, or the passkey may be removed: only one
request goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from authapi.clock import now
from authapi.crypto.factors.challenges import Challenges
from authapi.crypto.factors.webauthn import read_client_data, verify_assertion
from authapi.domain.events import EventType
from authapi.domain.factors.passkeys import (
    Assertion,
    AuthenticatorState,
    ChallengePurpose,
    Passkey,
    RelyingParty,
    UsedChallenge,
)
from authapi.domain.factors.values import FactorMethod
from authapi.domain.identity import Identity
from authapi.errors import PasskeyMismatch, PasskeysUnavailable
from authapi.services.audit import Audit
from authapi.services.factors.webauthn.relying_party import relying_party_of, require_origin
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.tables.users import Credentials

_TOLD = frozenset({"counter", "origin", "user"})
"""The reasons that events have."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a browser needs to ask an authenticator (`PublicKeyCredentialRequestOptions`)."""

    challenge: bytes
    rp_id: str
    passkeys: Sequence[Passkey]
    """Those that may answer; none stands for every passkey that the authenticator has."""
    requires_verification: bool


@dataclass(frozen=True, slots=True)
class BoundAssertion:
    """The answer of an authenticator, and what its challenge must have been issued for."""

    assertion: Assertion
    purpose: ChallengePurpose
    binding: str


@dataclass(frozen=True, slots=True)
class ProvedPasskey:
    """A passkey whose proof was verified, and is to be used up."""

    passkey: Passkey
    credentials: Credentials
    """The account when the proof was verified."""
    state: AuthenticatorState
    challenge: UsedChallenge


def binding_of(identity: Identity) -> str:
    """Returns what the challenges of a caller are bound to: the session, or else the account."""
    return str(identity.session_id or identity.user.id)


class PasskeyAssertions:
    """Verifies passkeys.

    `challenges` returns the challenges of the service; `on_outcome` is called with the method and
    whether the proof was right. Each method raises StorageUnavailable if the
    database does not answer.
    """

    def __init__(
        self,
        database: Database,
        challenges: Callable[[], Challenges],
        audit: Audit,
        settings: Settings,
        *,
        on_outcome: Callable[[FactorMethod, bool], None] | None = None,
    ) -> None:
        self._database = database
        self._challenges = challenges
        self._audit = audit
        self._settings = settings
        self._on_outcome = on_outcome

    @property
    def are_available(self) -> bool:
        """Whether passkeys can be used in this installation."""
        try:
            relying_party_of(self._settings)
        except PasskeysUnavailable:
            return False
        return True

    async def options(
        self,
        purpose: ChallengePurpose,
        binding: str,
        *,
        user_id: UUID | None,
        origin: str | None,
        requires_verification: bool,
    ) -> RequestOptions:
        """Returns the options for a page of `origin`. Nothing is written.

        `user_id` is the account whose passkeys may answer; without it, the options name none, so
        they tell nothing about accounts. Raises PasskeysUnavailable.
        """
        relying_party = require_origin(self._settings, origin)
        passkeys: Sequence[Passkey] = ()
        if user_id is not None:
            async with self._database.read() as store:
                passkeys = await store.passkeys.list_for_user(user_id)
        challenge = self._challenges().issue(purpose, binding, at=now())
        return RequestOptions(challenge, relying_party.id, passkeys, requires_verification)

    async def verify(
        self,
        bound: BoundAssertion,
        *,
        user_id: UUID | None,
        requires_verification: bool,
    ) -> ProvedPasskey:
        """Verifies the answer of an authenticator, which `user_id` has to own if it is given.

        A refusal is recorded if its reason tells of an attack: a counter that did not increase, a
        page of another origin, or the passkey of another account. Raises PasskeyMismatch, and
        PasskeysUnavailable.
        """
        relying_party = relying_party_of(self._settings)
        try:
            return await self._verify(bound, relying_party, user_id, requires_verification)
        except PasskeyMismatch:
            self._count(is_right=False)
            raise

    async def _verify(
        self,
        bound: BoundAssertion,
        relying_party: RelyingParty,
        user_id: UUID | None,
        requires_verification: bool,
    ) -> ProvedPasskey:
        assertion = bound.assertion
        # First, because it costs least and needs no database.
        challenge = self._challenges().check(
            read_client_data(assertion.client_data).challenge,
            bound.purpose,
            bound.binding,
            at=now(),
        )
        async with self._database.read() as store:
            found = await store.passkeys.find_by_credential(assertion.credential_id)
            row = None if found is None else await store.users.find_credentials(found[0].user_id)
        if found is None or row is None:
            raise PasskeyMismatch("unknown")
        passkey, handle = found
        try:
            _check_owner(assertion, passkey, handle, user_id)
            state = await asyncio.to_thread(
                verify_assertion,
                assertion,
                passkey.public_key,
                relying_party,
                requires_verification=requires_verification,
            )
            _check_state(passkey, state)
        except PasskeyMismatch as refusal:
            await record_refusal(self._audit, user_id or passkey.user_id, refusal.reason)
            raise
        return ProvedPasskey(passkey, row, state, challenge)

    async def use_up(self, store: Store, proved: ProvedPasskey) -> None:
        """Uses a proof up in the transaction of what it allows. The user is locked.

        Raises PasskeyMismatch if the challenge was used before, or the passkey was removed or used
        with a higher counter since `verify`.
        """
        passkey, state = proved.passkey, proved.state
        # The owner is there: wrong codes of the authenticator app count from zero again.
        await store.totp_factors.reset_failures(passkey.user_id)
        if not await store.passkeys.use(
            passkey.id, sign_count=state.sign_count, backed_up=state.backed_up, at=now()
        ):
            raise PasskeyMismatch
        if not await store.used_challenges.add(proved.challenge):
            raise PasskeyMismatch
        self._count(is_right=True)

    def _count(self, *, is_right: bool) -> None:
        if self._on_outcome is not None:
            self._on_outcome(FactorMethod.PASSKEY, is_right)


async def record_refusal(audit: Audit, user_id: UUID, reason: str | None) -> None:
    """Records that the proof of a passkey of a user was refused.

    Of the `reason`, only those that tell of an attack are recorded. Raises StorageUnavailable.
    """
    kind = EventType.PASSKEY_REFUSED
    if reason in _TOLD:
        await audit.record_separately(kind, user_id=user_id, reason=reason)
    else:
        await audit.record_separately(kind, user_id=user_id)


def _check_owner(
    assertion: Assertion, passkey: Passkey, handle: bytes | None, user_id: UUID | None
) -> None:
    if user_id is not None and passkey.user_id != user_id:
        raise PasskeyMismatch("user")
    given = assertion.user_handle
    if given is None:
        # A login that names no account needs it (WebAuthn Level 3, section 7.2, step 6).
        if user_id is None:
            raise PasskeyMismatch("user")
    elif given != handle:
        raise PasskeyMismatch("user")


def _check_state(passkey: Passkey, state: AuthenticatorState) -> None:
    if state.backup_eligible != passkey.backup_eligible:
        raise PasskeyMismatch
    counts = passkey.sign_count > 0 or state.sign_count > 0
    if counts and state.sign_count <= passkey.sign_count:
        raise PasskeyMismatch("counter")
