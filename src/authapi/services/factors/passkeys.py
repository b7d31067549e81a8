"""The passkeys of an account: registration, names and removal."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from authapi.clock import now
from authapi.crypto.factors.challenges import Challenges
from authapi.crypto.factors.webauthn import read_client_data, verify_attestation
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import SecretHash
from authapi.domain.events import EventType
from authapi.domain.factors.passkeys import (
    Attestation,
    ChallengePurpose,
    NewCredential,
    Passkey,
    RelyingParty,
    UsedChallenge,
)
from authapi.domain.factors.values import FactorMethod
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import (
    FactorExists,
    LastWayIn,
    MFADisabled,
    NotFound,
    PasskeyMismatch,
    TooManyFactors,
    UnconfirmedEmail,
    WrongPasskey,
)
from authapi.services.audit import Audit
from authapi.services.factors.additions import FactorAdditions, lock_owner
from authapi.services.factors.removal import keep_or_end_mfa, tell_of_removal
from authapi.services.factors.webauthn.assertions import binding_of
from authapi.services.factors.webauthn.relying_party import relying_party_of, require_origin
from authapi.services.mail import Mail
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

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
class AddedPasskey:
    """A new passkey, and the recovery codes if it is the first second factor of its account."""

    passkey: Passkey
    recovery_codes: Sequence[str] | None = field(repr=False)


class Passkeys:
    """Adds, renames and removes passkeys.

    Each method raises InvalidCredential if the session of the caller has ended, NotFound if the
    account is deleted, and StorageUnavailable if the database does not answer.
    """

    def __init__(
        self,
        database: Database,
        challenges: Callable[[], Challenges],
        additions: FactorAdditions,
        audit: Audit,
        mail: Mail,
        settings: Settings,
    ) -> None:
        self._database = database
        self._challenges = challenges
        self._additions = additions
        self._audit = audit
        self._mail = mail
        self._settings = settings

    @retry_on_conflict
    async def options(self, identity: Identity, *, origin: str | None) -> CreationOptions:
        """Returns the options for a new passkey of the caller, for a page of `origin`.

        Raises PasskeysUnavailable, MFADisabled, TooManyFactors; UnconfirmedEmail where mail is sent
        and the address is not confirmed: the account may be registered with the address of another
        person, whom the factor would keep out. Raises InsufficientAuthentication if the account has
        a second factor that the caller has not proved.
        """
        relying_party = require_origin(self._settings, origin)
        new_handle = os.urandom(_HANDLE_BYTES)
        self._check_enabled()
        async with self._database.transaction() as store:
            user = (await lock_owner(store, identity)).user
            existing = await self._check_may_add(store, user)
            handle = await store.passkeys.handle(user.id, new_handle)
        challenge = self._challenges().issue(
            ChallengePurpose.REGISTER, binding_of(identity), at=now()
        )
        return CreationOptions(challenge, relying_party, user, handle, existing)

    async def add(
        self,
        identity: Identity,
        attestation: Attestation,
        name: str,
        *,
        new_secret_hash: SecretHash | None,
    ) -> AddedPasskey:
        """Adds the passkey that an authenticator has created for the options of this session.

        `new_secret_hash` replaces the secret of the session, which counts as one that has proved
        the passkey now. After the first second factor, all other logins of the account end, and its
        refresh tokens; personal access tokens stay. The challenge is used up.

        Raises WrongPasskey, also if the challenge has expired or was used; FactorExists if an
        account has the passkey; and as `options`.
        """
        relying_party = relying_party_of(self._settings)
        self._check_enabled()
        try:
            challenge = self._challenges().check(
                read_client_data(attestation.client_data).challenge,
                ChallengePurpose.REGISTER,
                binding_of(identity),
                at=now(),
            )
            credential = await asyncio.to_thread(verify_attestation, attestation, relying_party)
        except PasskeyMismatch:
            raise WrongPasskey from None
        passkey = _passkey(identity.user.id, credential, attestation, name)
        return await self._add(identity, passkey, challenge, new_secret_hash)

    @retry_on_conflict
    async def rename(self, identity: Identity, passkey_id: UUID, name: str) -> Passkey:
        """Renames a passkey of the caller. Raises NotFound if the caller has no such passkey."""
        async with self._database.transaction() as store:
            await lock_owner(store, identity)
            passkey = await store.passkeys.rename(identity.user.id, passkey_id, name)
        if passkey is None:
            raise NotFound
        return passkey

    @retry_on_conflict
    async def remove(self, identity: Identity, passkey_id: UUID) -> None:
        """Removes a passkey of the caller; with the last second factor, the recovery codes end.

        Raises NotFound if the caller has no such passkey, LastWayIn if the account has no password
        and no other passkey, and InsufficientAuthentication if the caller has proved one factor
        only.
        """
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            user = row.user
            await store.login_tickets.end_all(user.id)
            if not await store.passkeys.remove(user.id, passkey_id):
                raise NotFound
            if row.password_hash is None and not await store.passkeys.count(user.id):
                raise LastWayIn
            has_factor = await keep_or_end_mfa(store, user, self._settings)
            await self._audit.record(
                store,
                EventType.FACTOR_REMOVED,
                user_id=user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
                method=FactorMethod.PASSKEY.value,
            )
            await tell_of_removal(
                self._mail, store, user, FactorMethod.PASSKEY, has_factor=has_factor
            )

    @retry_on_conflict
    async def _add(
        self,
        identity: Identity,
        passkey: Passkey,
        challenge: UsedChallenge,
        secret: SecretHash | None,
    ) -> AddedPasskey:
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            await self._check_may_add(store, row.user)

            async def insert() -> None:
                if not await store.passkeys.add(passkey):
                    raise FactorExists

            codes = await self._additions.add(
                store,
                identity,
                row,
                FactorMethod.PASSKEY,
                insert,
                at=passkey.created_at,
                secret=secret,
            )
            if not await store.used_challenges.add(challenge):
                raise WrongPasskey
        return AddedPasskey(passkey, codes)

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
