"""Enrolment of an authenticator app: a new secret, and a first code that confirms it.

An enrolment gates nothing until it is confirmed, by the session or login that began it. The
confirmation proves the second factor of that session.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.factors.totp import as_base32, key_uri, new_totp_secret
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import SecretHash
from authapi.domain.factors.values import FactorMethod, TOTPFactor
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import FactorExists, MFADisabled, NotFound, UnconfirmedEmail, WrongCode
from authapi.services.audit import Audit
from authapi.services.factors.additions import FactorAdditions, lock_owner
from authapi.services.factors.proofs import SecondFactorProofs, WrongSecondFactor
from authapi.services.mail import Mail
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict
from authapi.storage.tables.users import Credentials

LIFETIME = timedelta(minutes=10)
"""How long an enrolment can be confirmed."""
MAX_ATTEMPTS = 5
"""How many codes one enrolment allows."""


@dataclass(frozen=True, slots=True)
class NewEnrolment:
    """What an authenticator app needs. It is shown once."""

    id: UUID
    secret: str = field(repr=False)
    """In base32."""
    uri: str = field(repr=False)
    """The `otpauth:` URI, which a QR code shows."""
    expires_at: datetime


class TOTPEnrolment:
    """Enrols authenticator apps.

    Each method raises InvalidCredential if the session of the caller has ended, NotFound if the
    account is deleted, and StorageUnavailable if the database does not answer.
    """

    def __init__(
        self,
        database: Database,
        proofs: SecondFactorProofs,
        audit: Audit,
        mail: Mail,
        settings: Settings,
    ) -> None:
        self._database = database
        self._proofs = proofs
        self._additions = FactorAdditions(audit, mail, settings)
        self._settings = settings

    @retry_on_conflict
    async def begin(self, identity: Identity) -> NewEnrolment:
        """Begins the enrolment of an authenticator app; an earlier enrolment ends.

        Raises MFADisabled; FactorExists if the account has an app; UnconfirmedEmail where mail is
        sent and the address is not confirmed: the account may be registered with the address of
        another person, whom the factor would keep out. Raises InsufficientAuthentication if the
        account has a second factor that the caller has not proved. Raises Unavailable if `keys
        rewrap` has changed the secret since this process started.
        """
        if self._settings.mfa == "off":
            raise MFADisabled
        async with self._database.transaction() as store:
            await self._proofs.lock_secret(store)
            row = await lock_owner(store, identity)
            return await self.add(store, row.user, row.version, begun_by=identity.session_id)

    async def add(
        self, store: Store, user: User, version: int, *, begun_by: UUID | None
    ) -> NewEnrolment:
        """Adds an enrolment of a locked user, whose earlier enrolment ends.

        The transaction has called `SecondFactorProofs.lock_secret` first.
        `version` is the `credentials_version` of the account; `begun_by` is the session, or the
        ticket of the login, that can confirm it. Raises FactorExists and UnconfirmedEmail, as
        `begin` does.
        """
        if await store.totp_factors.find(user.id) is not None:
            raise FactorExists
        if self._settings.sends_mail and user.email_confirmed_at is None:
            raise UnconfirmedEmail
        secret, factor_id, at = new_totp_secret(), new_id(), now()
        factor = TOTPFactor.unused(
            factor_id,
            user.id,
            self._proofs.encrypt(factor_id, secret),
            credentials_version=version,
            at=at,
            session_id=begun_by,
            expires_at=at + LIFETIME,
        )
        await store.totp_factors.add(factor)
        return NewEnrolment(
            id=factor_id,
            secret=as_base32(secret),
            uri=key_uri(secret, issuer=self._issuer(), account=user.email),
            expires_at=at + LIFETIME,
        )

    async def confirm(
        self, identity: Identity, code: str, *, new_secret_hash: SecretHash | None
    ) -> Sequence[str] | None:
        """Confirms the enrolment that this session began, by a code of the app.

        Returns the recovery codes of the account if this is its first second factor, else None.
        `new_secret_hash` replaces the secret of the session. After the first factor, all other
        logins of the account end, its refresh tokens and the links that change its address;
        personal access tokens stay. The code is used up. At most five codes are compared for one
        enrolment.

        Raises WrongCode; FactorExists if the account has an app by now; MFADisabled; NotFound if
        this session has no enrolment, it has expired or its attempts are used up, or the
        credentials of the account have changed since it began.
        """
        if self._settings.mfa == "off":
            raise MFADisabled
        enrolment = await self._count_attempt(identity)
        try:
            step = self._proofs.matching_step(enrolment, code)
        except WrongSecondFactor:
            raise WrongCode from None
        return await self._confirm(identity, enrolment.id, step, new_secret_hash)

    @retry_on_conflict
    async def _count_attempt(self, identity: Identity) -> TOTPFactor:
        # Before the code is compared, and committed on its own: concurrent guesses are counted too.
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            enrolment = await _find(store, identity, row)
            if await store.totp_factors.count_attempt(enrolment.id, limit=MAX_ATTEMPTS) is None:
                raise NotFound
        return enrolment

    @retry_on_conflict
    async def _confirm(
        self, identity: Identity, enrolment_id: UUID, step: int, secret: SecretHash | None
    ) -> Sequence[str] | None:
        at = now()
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            if (await _find(store, identity, row)).id != enrolment_id:
                raise NotFound  # another enrolment has replaced it

            async def insert() -> None:
                await self._use(store, enrolment_id, step, at)

            return await self._additions.add(
                store, identity, row, FactorMethod.TOTP, insert, at=at, secret=secret
            )

    async def finish(
        self,
        store: Store,
        user: User,
        enrolment_id: UUID,
        step: int,
        *,
        at: datetime,
        strategy: str,
        ticket_id: UUID | None = None,
    ) -> Sequence[str] | None:
        """Makes the enrolment of a login a factor, and uses the code of `step` up.

        `user` is locked, in the state before the change. `ticket_id` is the login that goes on with
        it, which is used up. Returns new recovery codes if the user had no factor, else None.
        Raises NotFound if the enrolment or the login has expired since it was read.
        """

        async def insert() -> None:
            await self._use(store, enrolment_id, step, at)

        return await self._additions.finish(
            store,
            user,
            FactorMethod.TOTP,
            insert,
            at=at,
            session_id=None,
            strategy=strategy,
            ticket_id=ticket_id,
        )

    async def _use(self, store: Store, enrolment_id: UUID, step: int, at: datetime) -> None:
        if not await store.totp_factors.confirm(enrolment_id, step=step, at=at):
            raise NotFound  # it has expired since it was read

    def _issuer(self) -> str:
        # In the label of the URI, a colon ends the name.
        name = self._settings.totp_issuer or self._settings.service_name
        return " ".join(name.replace(":", " ").split())


async def _find(store: Store, identity: Identity, row: Credentials) -> TOTPFactor:
    return await find_enrolment(store, row.user.id, row.version, begun_by=identity.session_id)


async def find_enrolment(
    store: Store, user_id: UUID, version: int, *, begun_by: UUID | None
) -> TOTPFactor:
    """Returns the enrolment that this session, or the ticket of a login, has begun.

    Raises FactorExists, or NotFound if there is none, or the credentials of the account have
    changed since.
    """
    if await store.totp_factors.find(user_id) is not None:
        raise FactorExists
    found = await store.totp_factors.find_enrolment(user_id, now=now())
    if found is None or found.session_id != begun_by or found.credentials_version != version:
        raise NotFound
    return found
