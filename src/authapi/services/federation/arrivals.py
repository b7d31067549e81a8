"""A person arrives from a provider: who they are here, or what keeps them from logging in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.email_address import EmailAddress, stored_email
from authapi.domain.events import EventType
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.passkeys import UsedChallenge
from authapi.domain.factors.policy import asks_for_factor
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.domain.federation.proof import FED, FederatedProof
from authapi.domain.user import User
from authapi.errors import (
    EmailTaken,
    IdentityTaken,
    InvalidCredentials,
    LinkRequired,
    LoginExpired,
    ProviderAnswerRefused,
    RegistrationClosed,
    Unavailable,
)
from authapi.services.audit import Audit
from authapi.services.federation.email_tickets import EmailTickets
from authapi.services.federation.once import check_flow, once_of
from authapi.services.federation.people import address_of, auth_time_of, checked
from authapi.services.federation.policy import End, end_of_arrival
from authapi.services.federation.sign_up import FederatedSignUp, Provisioned
from authapi.services.hooks import Hooks
from authapi.services.logins.proved import Proved
from authapi.services.mail import Mail, MailKind
from authapi.services.rate_limits import RateLimits
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.tables.users import Credentials

_RECORDED = (InvalidCredentials, LinkRequired, ProviderAnswerRefused, RegistrationClosed)
"""Refusals that are events."""
_MAX_ROUNDS = 3
"""How often the accounts may change between a look at them and the change that follows."""


@dataclass(slots=True)
class _Arrival:
    """A person, and the flow in which they came."""

    person: Person
    strategy: str
    once: UsedChallenge
    at: datetime
    request: object
    account: UUID | None = None
    """The account that the person is linked to, or that has the address, once it is known."""


class Arrivals:
    """Turns a person whom a provider has authenticated into a proved first factor.

    Each method raises the errors of the hooks, and StorageUnavailable if the database does not
    answer.
    """

    def __init__(
        self,
        database: Database,
        sign_up: FederatedSignUp,
        tickets: EmailTickets,
        rate_limits: RateLimits,
        audit: Audit,
        mail: Mail,
        hooks: Hooks,
        settings: Settings,
    ) -> None:
        self._database = database
        self._sign_up = sign_up
        self._tickets = tickets
        self._rate_limits = rate_limits
        self._audit = audit
        self._mail = mail
        self._hooks = hooks
        self._settings = settings

    async def arrive(self, person: Person, flow: Flow, *, request: object = None) -> Proved:
        """Returns the account that a person logs in to; `Logins.complete` goes on with it.

        `flow` is that of this browser, with the intent `LOGIN`. It is used up with the session, the
        ticket for a second factor, or the code for `POST /login/with/exchange` that follows, so a
        failure before leaves it usable. The account is the one that the person is linked to. If
        there is none, the settings `federation_linking` and `registration` decide: an account is
        created or linked, or the person is refused. The hooks `before_login`, `before_register`,
        `may_provision` and `on_provision` run; the first two get `request`, and do not run if it is
        None.

        Raises LoginFlowInvalid if the flow is for another provider or intent, or has expired;
        ProviderAnswerRefused if the person has no usable identifier; InvalidCredentials if the
        account is deactivated, or must confirm its address first; LinkRequired, EmailNeeded,
        RegistrationClosed and TooManyAttempts; InvalidInput or ProfileTaken if a new account needs
        own columns of the application. Each refusal is recorded as an event.
        """
        check_flow(flow, FlowIntent.LOGIN, person)
        arrival = _Arrival(person, flow.strategy, once_of(flow), now(), request)
        async with self._recording(arrival):
            arrival.person = checked(person)
            arrival.at = auth_time_of(arrival.person)
            return await self._account(arrival, flow)

    async def provide(
        self,
        person: Person,
        email: EmailAddress,
        *,
        strategy: str,
        once: UsedChallenge,
        request: object = None,
    ) -> Proved:
        """Returns the new account of a person who has entered an address, with open registration.

        The address is not confirmed. Raises LoginExpired if an account is linked to the person by
        now: only the provider can prove again who it is. Raises LinkRequired if an account has the
        address, and otherwise as `arrive`.
        """
        person = checked(person)  # a second factor may be too old by now
        arrival = _Arrival(person, strategy, once, auth_time_of(person), request)
        async with self._recording(arrival):
            for _ in range(_MAX_ROUNDS):
                row = await self._with_address(arrival, email)
                if await self._is_linked(arrival):
                    # Its sessions may have been ended since the person was at the provider.
                    raise LoginExpired
                if row is not None:
                    await self._sign_up.count()  # of attempts to find addresses with an account
                    await self._want_link(arrival, row.user)
                created = await self._create(arrival, email, is_confirmed=False)
                if created is not None:
                    return created
            raise Unavailable

    async def _is_linked(self, arrival: _Arrival) -> bool:
        async with self._database.read() as store:
            found = await store.identities.find(arrival.person.issuer, arrival.person.subject)
        return found is not None

    @asynccontextmanager
    async def _recording(self, arrival: _Arrival) -> AsyncIterator[None]:
        """Records a refusal of this arrival, with the account as far as it is known."""
        try:
            yield
        except _RECORDED as refusal:
            await self.record_refusal(
                arrival.person.provider,
                refusal.code,
                strategy=arrival.strategy,
                user_id=arrival.account,
            )
            raise

    def proved(self, provisioned: Provisioned, person: Person, once: UsedChallenge) -> Proved:
        """Returns the first factor of a person who was linked to an account now."""
        return self._proved(
            provisioned.user,
            provisioned.credentials_version,
            _Arrival(person, "", once, auth_time_of(person), None),
            provisioned.identity_id,
        )

    async def record_refusal(
        self, provider: str, reason: str, *, strategy: str | None, user_id: UUID | None
    ) -> None:
        """Records that a login at a provider was refused. `reason` is a name of ours.

        Raises no StorageUnavailable.
        """
        await self._audit.record_separately(
            EventType.FEDERATED_LOGIN_REFUSED,
            user_id=user_id,
            strategy=strategy,
            provider=provider,
            reason=reason,
        )

    async def _account(self, arrival: _Arrival, flow: Flow) -> Proved:
        person = arrival.person
        email = address_of(person, self._settings)
        for _ in range(_MAX_ROUNDS):
            # The address first: a login of the same person may create account and link meanwhile.
            row = await self._with_address(arrival, email)
            if (linked := await self._linked(arrival)) is not None:
                return linked
            proved: Proved | None = None
            match end_of_arrival(
                None if row is None else row.user,
                has_address=email is not None,
                is_authoritative=person.is_authoritative,
                linking=self._settings.federation_linking,
                registration=self._settings.registration,
            ):
                case End.CLOSED:
                    raise RegistrationClosed
                case End.REFUSED:
                    raise InvalidCredentials
                case End.LINK_REQUIRED if row is not None:
                    if not person.is_authoritative:
                        await self._sign_up.count()  # a person may try many addresses
                    await self._want_link(arrival, row.user)
                case End.EMAIL_NEEDED:
                    await self._sign_up.check_allowed(person, None, request=arrival.request)
                    raise self._tickets.needed(person, flow)
                case End.LINK if row is not None:
                    return await self._link(arrival, row)
                case End.TAKE_OVER if row is not None and email is not None:
                    proved = await self._take_over(arrival, email, row.user)
                case _ if email is not None:
                    proved = await self._create(
                        arrival, email, is_confirmed=person.is_authoritative
                    )
                case _:
                    raise RegistrationClosed
            if proved is not None:
                return proved
        raise Unavailable

    async def _linked(self, arrival: _Arrival) -> Proved | None:
        """Returns the account that the person is linked to; None if there is none."""
        person = arrival.person
        async with self._database.read() as store:
            found = await store.identities.find(person.issuer, person.subject)
            row = None if found is None else await store.users.find_credentials(found.user_id)
        if found is None or row is None:
            return None
        arrival.account = row.user.id
        await self._check_may_log_in(arrival, row.user)
        return self._proved(row.user, row.version, arrival, found.id)

    async def _with_address(
        self, arrival: _Arrival, email: EmailAddress | None
    ) -> Credentials | None:
        if email is None:
            return None
        async with self._database.read() as store:
            row = await store.users.find_credentials_by_email(email.canonical)
        arrival.account = None if row is None else row.user.id
        return row

    async def _link(self, arrival: _Arrival, row: Credentials) -> Proved:
        """Returns the account with the address; its session, or its second factor, links it."""
        await self._check_may_log_in(arrival, row.user)
        return self._proved(row.user, row.version, arrival, new_id(), is_linked=False)

    async def _take_over(self, arrival: _Arrival, email: EmailAddress, user: User) -> Proved | None:
        await self._sign_up.check_allowed(arrival.person, email, request=arrival.request)
        try:
            taken = await self._sign_up.take_over(arrival.person, email, user.id)
        except IdentityTaken:
            return None
        return None if taken is None else self._of(arrival, taken)

    async def _create(
        self, arrival: _Arrival, email: EmailAddress, *, is_confirmed: bool
    ) -> Proved | None:
        await self._sign_up.count()
        await self._sign_up.check_allowed(arrival.person, email, request=arrival.request)
        try:
            created = await self._sign_up.create(arrival.person, email, is_confirmed=is_confirmed)
        except IdentityTaken:
            return None  # by a login of the same person, which was faster
        except EmailTaken:
            if await self._with_address(arrival, email) is not None:
                return None
            # Another account can revert to the address: for a new one it is taken.
            raise self.link_required() from None
        return self._of(arrival, created)

    def _of(self, arrival: _Arrival, provisioned: Provisioned) -> Proved:
        return self._proved(
            provisioned.user, provisioned.credentials_version, arrival, provisioned.identity_id
        )

    async def _check_may_log_in(self, arrival: _Arrival, user: User) -> None:
        if self._hooks.checks_logins:
            account = stored_email(user.email).canonical
            await self._hooks.run_before_login(arrival.request, account)
        if not user.may_log_in(must_confirm=self._settings.registration == "confirm"):
            raise InvalidCredentials

    async def _want_link(self, arrival: _Arrival, owner: User) -> None:
        """Tells the owner of an address that a person wants in. Raises LinkRequired."""
        address = stored_email(owner.email).canonical
        kind = MailKind.IDENTITY_WANTED
        async with self._rate_limits.allow_mail(kind.value, address) as allowance:
            if owner.is_active and self._settings.sends_mail and allowance.is_allowed:
                async with self._database.transaction() as store:
                    row = await store.users.lock(owner.id)
                    if row is not None:
                        provider = self._settings.provider_title(arrival.person.provider)
                        await self._mail.queue(store, kind, row.user, provider=provider)
                        allowance.is_used = True
        raise self.link_required()

    def link_required(self) -> LinkRequired:
        """Returns the refusal of a person whose address is that of an account."""
        passkey = ("passkey",) if self._settings.passkeys == "on" else ()
        mail = ("password_reset",) if self._settings.sends_mail else ()
        return LinkRequired(methods=("password", *passkey, *mail))

    def _proved(
        self,
        user: User,
        version: int,
        arrival: _Arrival,
        identity_id: UUID,
        *,
        is_linked: bool = True,
    ) -> Proved:
        person, at = arrival.person, arrival.at
        # What a provider says of a second factor counts once the owner has linked it: until then,
        # the second factor of the account itself is asked for.
        is_trusted = is_linked or not asks_for_factor(user, self._settings)
        has_mfa = person.has_proved_mfa and is_trusted
        return Proved(
            user=user,
            credentials_version=version,
            auth_time=at,
            amr=(FED, MFA) if has_mfa else (FED,),
            mfa_at=min(at, now()) if has_mfa else None,
            federated=FederatedProof(identity_id, person.provider, at, person, is_linked),
            once=arrival.once,
        )
