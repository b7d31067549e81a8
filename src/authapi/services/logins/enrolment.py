"""Logins that go on with adding the second factor that their account must have.

The ticket of such a login adds a factor, and nothing else: it proves no factor, and no other ticket
adds one. The session begins in the transaction that adds the factor.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from authapi.clock import now, now_after
from authapi.domain.factors.passkeys import Attestation, RelyingParty
from authapi.domain.factors.values import FactorMethod, LoginTicket, TicketPurpose
from authapi.domain.user import User
from authapi.errors import LoginExpired, NotFound, WrongCode
from authapi.services.factors.proofs import WrongSecondFactor
from authapi.services.factors.services import FactorServices
from authapi.services.factors.totp import NewEnrolment, find_enrolment
from authapi.services.factors.webauthn.registration import CreationOptions
from authapi.services.logins.complete import (
    MAX_ATTEMPTS,
    CompletedLogin,
    Logins,
)
from authapi.services.logins.proved import SecondFactorUse
from authapi.services.rate_limits import RateLimits
from authapi.services.revalidation import lock_unchanged_user
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

_Add = Callable[[Store, User, datetime], Awaitable[Sequence[str] | None]]
"""Adds a factor to a locked user, who is as before the change; returns the recovery codes."""


@dataclass(slots=True)
class Enrolled:
    """The account after its first factor was added. It is complete once the session has begun."""

    user: User
    recovery_codes: Sequence[str] = field(default=(), repr=False)


class LoginEnrolment:
    """Adds the first factor of an account, for a login that is not complete without one.

    A login is found by `ticket`, or by the cookie of the `browser`. Each method raises LoginExpired
    if there is no such login, or the account was deactivated or changed since it began;
    InvalidCredentials if it was changed meanwhile; and StorageUnavailable if the database does not
    answer.
    """

    def __init__(
        self,
        database: Database,
        logins: Logins,
        factors: FactorServices,
        rate_limits: RateLimits,
    ) -> None:
        self._database = database
        self._logins = logins
        self._totp = factors.totp
        self._passkeys = factors.registration
        self._additions = factors.additions
        self._proofs = factors.proofs
        self._rate_limits = rate_limits

    async def begin_totp(
        self, *, ticket: str | None = None, browser: str | None = None
    ) -> NewEnrolment:
        """Begins the enrolment of an authenticator app; an earlier enrolment ends.

        It ends with the login at the latest. Raises UnconfirmedEmail where mail is sent and the
        address is not confirmed, TooManyRequests, and Unavailable if `keys rewrap` has changed the
        secret since this process started.
        """
        found, user = await self._logins.find(TicketPurpose.ENROL, ticket, browser)
        await self._rate_limits.consume_write(user.id, found.id)
        begun = await self._begin_totp(found)
        return replace(begun, expires_at=min(begun.expires_at, found.expires_at))

    @retry_on_conflict
    async def _begin_totp(self, ticket: LoginTicket) -> NewEnrolment:
        version = ticket.credentials_version
        async with self._database.transaction() as store:
            await self._proofs.lock_secret(store)
            user = await lock_unchanged_user(store, ticket.user_id, version)
            return await self._totp.add(store, user, version, begun_by=ticket.id)

    async def confirm_totp(
        self, code: str, *, ticket: str | None = None, browser: str | None = None
    ) -> tuple[CompletedLogin, Enrolled]:
        """Confirms the enrolment of this login by a code of the app.

        The attempt is counted before the code is compared. The factor, the recovery codes and the
        session begin in one transaction, which uses the ticket and the code up and ends all other
        logins of the account, so of several calls with one ticket, one succeeds.

        Raises WrongCode, LoginExpired also if no attempt is left, and NotFound if this login has
        begun no enrolment, or it has expired.
        """
        found, user = await self._logins.find(TicketPurpose.ENROL, ticket, browser)
        counted = await self._logins.count_attempt(found)
        async with self._database.read() as store:
            enrolment = await find_enrolment(
                store, user.id, counted.credentials_version, begun_by=counted.id
            )
        try:
            step = self._proofs.matching_step(enrolment, code)
        except WrongSecondFactor:
            raise WrongCode from None

        async def add(store: Store, user: User, at: datetime) -> Sequence[str] | None:
            return await self._totp.finish(
                store,
                user,
                enrolment.id,
                step,
                at=at,
                strategy=counted.strategy,
                ticket_id=counted.id,
            )

        return self._complete(counted, user, FactorMethod.TOTP, add)

    async def passkey_options(
        self, *, ticket: str | None = None, browser: str | None = None, origin: str | None
    ) -> CreationOptions:
        """Returns the options for a new passkey, for a page of `origin`.

        Raises LoginExpired also if no attempt is left, UnconfirmedEmail where mail is sent and the
        address is not confirmed, PasskeysUnavailable, and TooManyRequests.
        """
        found, user = await self._logins.find(TicketPurpose.ENROL, ticket, browser)
        if found.attempts >= MAX_ATTEMPTS:
            raise LoginExpired
        relying_party = self._passkeys.require_available(origin)
        await self._rate_limits.consume_write(user.id, found.id)
        return await self._passkey_options(found, relying_party)

    @retry_on_conflict
    async def _passkey_options(
        self, ticket: LoginTicket, relying_party: RelyingParty
    ) -> CreationOptions:
        async with self._database.transaction() as store:
            user = await lock_unchanged_user(store, ticket.user_id, ticket.credentials_version)
            return await self._passkeys.options(store, user, relying_party, binding=str(ticket.id))

    async def add_passkey(
        self,
        attestation: Attestation,
        name: str,
        *,
        ticket: str | None = None,
        browser: str | None = None,
    ) -> tuple[CompletedLogin, Enrolled]:
        """Adds the passkey that an authenticator has created for the options of this login.

        The attempt is counted before the passkey is verified. The transaction is that of
        `confirm_totp`, which also uses the challenge up.

        Raises WrongPasskey, LoginExpired also if no attempt is left, and PasskeysUnavailable. The
        session raises FactorExists if an account has the passkey, and UnconfirmedEmail.
        """
        found, user = await self._logins.find(TicketPurpose.ENROL, ticket, browser)
        counted = await self._logins.count_attempt(found)
        verified = await self._passkeys.verify(
            attestation, name, user_id=user.id, binding=str(counted.id)
        )

        async def add(store: Store, user: User, at: datetime) -> Sequence[str] | None:
            codes = await self._additions.finish(
                store,
                user,
                FactorMethod.PASSKEY,
                partial(self._passkeys.insert, store, user, verified),
                at=at,
                session_id=None,
                strategy=counted.strategy,
                ticket_id=counted.id,
            )
            await self._passkeys.use_up(store, verified)
            return codes

        return self._complete(counted, user, FactorMethod.PASSKEY, add)

    def _complete(
        self, ticket: LoginTicket, user: User, method: FactorMethod, add: _Add
    ) -> tuple[CompletedLogin, Enrolled]:
        enrolled = Enrolled(user)
        use = SecondFactorUse(partial(_finish, ticket, add, enrolled), ends_logins=True)
        return self._logins.complete_ticket(ticket, user, method, use), enrolled


async def _finish(ticket: LoginTicket, add: _Add, enrolled: Enrolled, store: Store) -> None:
    at, user = now(), await store.users.find(ticket.user_id)
    if user is None:
        raise LoginExpired
    await store.users.set_mfa(user.id, at, at=now_after(user.updated_at))
    try:
        codes = await add(store, user, at)
    except NotFound:
        raise LoginExpired from None
    enrolled.user = await store.users.find(user.id) or user
    enrolled.recovery_codes = codes or ()
