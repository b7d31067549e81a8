"""Logins that go on with adding the second factor that their account must have.

The ticket of such a login adds a factor, and nothing else: it proves no factor, and no other ticket
adds one. The session begins in the transaction that adds the factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from authapi.clock import now, now_after
from authapi.domain.factors.values import FactorMethod, LoginTicket, TicketPurpose
from authapi.domain.user import User
from authapi.errors import LoginExpired, NotFound, WrongCode
from authapi.services.factors.proofs import SecondFactorProofs, WrongSecondFactor
from authapi.services.factors.totp import NewEnrolment, TOTPEnrolment, find_enrolment
from authapi.services.logins.complete import CompletedLogin, Logins, complete_ticket
from authapi.services.logins.proved import SecondFactorUse
from authapi.services.rate_limits import RateLimits
from authapi.services.revalidation import lock_unchanged_user
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


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
        totp: TOTPEnrolment,
        proofs: SecondFactorProofs,
        rate_limits: RateLimits,
    ) -> None:
        self._database = database
        self._logins = logins
        self._totp = totp
        self._proofs = proofs
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
        enrolled = Enrolled(user)
        finish = partial(self._finish_totp, counted, enrolment.id, step, enrolled)
        use = SecondFactorUse(finish, ends_logins=True)
        return complete_ticket(counted, user, FactorMethod.TOTP, use), enrolled

    async def _finish_totp(
        self, ticket: LoginTicket, enrolment_id: UUID, step: int, enrolled: Enrolled, store: Store
    ) -> None:
        at, user = now(), await store.users.find(ticket.user_id)
        if user is None:
            raise LoginExpired
        await store.users.set_mfa(user.id, at, at=now_after(user.updated_at))
        try:
            codes = await self._totp.finish(
                store,
                user,
                enrolment_id,
                step,
                at=at,
                strategy=ticket.strategy,
                ticket_id=ticket.id,
            )
        except NotFound:
            raise LoginExpired from None
        enrolled.user = await store.users.find(user.id) or user
        enrolled.recovery_codes = codes or ()
