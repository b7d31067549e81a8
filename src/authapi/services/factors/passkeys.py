"""The passkeys of an account: registration, names and removal."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from authapi.crypto.secrets import SecretHash
from authapi.domain.events import EventType
from authapi.domain.factors.passkeys import Attestation, Passkey
from authapi.domain.factors.values import FactorMethod
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import LastWayIn, NotFound
from authapi.services.audit import Audit
from authapi.services.factors.additions import FactorAdditions, lock_owner
from authapi.services.factors.removal import keep_or_end_mfa, tell_of_removal
from authapi.services.factors.webauthn.assertions import binding_of
from authapi.services.factors.webauthn.registration import (
    CreationOptions,
    PasskeyRegistration,
    VerifiedPasskey,
)
from authapi.services.mail import Mail
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


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
        registration: PasskeyRegistration,
        additions: FactorAdditions,
        audit: Audit,
        mail: Mail,
        settings: Settings,
    ) -> None:
        self._database = database
        self._registration = registration
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
        relying_party = self._registration.require_available(origin)
        async with self._database.transaction() as store:
            user = (await lock_owner(store, identity)).user
            return await self._registration.options(
                store, user, relying_party, binding=binding_of(identity)
            )

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
        verified = await self._registration.verify(
            attestation, name, user_id=identity.user.id, binding=binding_of(identity)
        )
        return await self._add(identity, verified, new_secret_hash)

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

        Raises NotFound if the caller has no such passkey, LastWayIn if the account has no password,
        no other passkey and no identity at a provider, and InsufficientAuthentication if the caller
        has proved one factor only.
        """
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            user = row.user
            await store.login_tickets.end_all(user.id)
            if not await store.passkeys.remove(user.id, passkey_id):
                raise NotFound
            if row.password_hash is None and not await self._has_other_way_in(store, user):
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
        self, identity: Identity, verified: VerifiedPasskey, secret: SecretHash | None
    ) -> AddedPasskey:
        passkey, registration = verified.passkey, self._registration
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            codes = await self._additions.add(
                store,
                identity,
                row,
                FactorMethod.PASSKEY,
                partial(registration.insert, store, row.user, verified),
                at=passkey.created_at,
                secret=secret,
            )
            await registration.use_up(store, verified)
        return AddedPasskey(passkey, codes)

    async def _has_other_way_in(self, store: Store, user: User) -> bool:
        if await store.passkeys.count(user.id):
            return True
        return any(
            self._settings.has_provider(identity.provider)
            for identity in await store.identities.list_for_user(user.id)
        )
