"""The one place where a proved factor becomes a login, or a ticket for a second factor.

Every way to log in ends here. `Logins.complete` is for clients that can go on with a second factor,
`Logins.complete_at_once` for those that cannot.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import SecretHash, hash_secret, is_secret, new_secret
from authapi.domain.events import EventType
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.passkeys import Assertion, ChallengePurpose
from authapi.domain.factors.policy import asks_for_factor
from authapi.domain.factors.values import FactorMethod, LoginTicket, SingleUse, TicketPurpose
from authapi.domain.federation.proof import FederatedProof
from authapi.domain.user import User
from authapi.errors import (
    InvalidCredentials,
    LoginExpired,
    LoginFlowInvalid,
    SecondFactorRefused,
)
from authapi.services.audit import Audit
from authapi.services.factors.proofs import SecondFactorProof, SecondFactorProofs, WrongSecondFactor
from authapi.services.factors.webauthn.assertions import BoundAssertion, RequestOptions
from authapi.services.logins.proved import Login, Proved, SecondFactorUse, use_up
from authapi.services.revalidation import lock_unchanged_user
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

FinishFederated = Callable[[Store, User, FederatedProof, SingleUse | None], Awaitable[None]]
"""Completes a login at a provider, in the transaction that begins its session; see
`IdentityLinks.finish`."""

MAX_ATTEMPTS = 5
"""How many codes one ticket allows."""


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login that waits for a second factor."""

    purpose: TicketPurpose
    """Whether the account proves the factor that it has, or adds one."""
    ticket: str | None = field(repr=False)
    """The secret of the ticket; None if the cookie of the browser stands for it."""
    methods: Sequence[FactorMethod]
    """How the second factor can be proved, or which ones the account can add."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class CompletedLogin:
    """A login that has proved its second factor, and what it asked for when it began."""

    login: Login
    strategy: str
    remember: bool


class Logins:
    """Completes logins.

    Each method raises StorageUnavailable if the database does not answer.
    """

    def __init__(
        self,
        database: Database,
        proofs: SecondFactorProofs,
        finish: FinishFederated,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._proofs = proofs
        self._finish_federated = finish
        self._audit = audit
        self._settings = settings

    async def complete(
        self, proved: Proved, *, strategy: str, remember: bool, browser: str | None = None
    ) -> Login | PendingLogin:
        """Returns the login, or a ticket if the account has a second factor, or must add one.

        `strategy` and `remember` are kept for the end of the login. `browser` is the value of the
        cookie that stands for the ticket; None if the client receives the ticket itself.

        Raises InvalidCredentials if the account was deactivated or deleted, or its credentials
        changed, since the factor was verified, and LoginFlowInvalid if a login at a provider was
        used before.
        """
        if self._is_enough(proved):
            return self._login(proved)
        return await self._begin(proved, strategy, remember, browser)

    def complete_at_once(self, proved: Proved) -> Login:
        """Returns the login of a client that cannot go on with a second factor.

        Raises InvalidCredentials if the account has one, or must have one.
        """
        if not self._is_enough(proved):
            raise InvalidCredentials
        return self._login(proved)

    def _is_enough(self, proved: Proved) -> bool:
        """Whether a first factor is all that the account asks for: it may count as two factors."""
        return MFA in proved.amr or not asks_for_factor(proved.user, self._settings)

    async def prove_second_factor(
        self,
        *,
        ticket: str | None = None,
        browser: str | None = None,
        code: str | None = None,
        recovery_code: str | None = None,
        passkey: Assertion | None = None,
    ) -> CompletedLogin:
        """Verifies the second factor of a login that waits for it.

        The login is found by `ticket`, or by the cookie of the `browser`. The attempt is counted
        before the code is compared. The ticket and the code are used up with the session, so of
        several calls with the same ones, one begins a session.

        Raises LoginExpired if there is no such login, it has no attempt left, or the account was
        deactivated or changed since it began; SecondFactorRefused; TooManyAttempts; for a passkey,
        PasskeysUnavailable.
        """
        found, user = await self.find(TicketPurpose.SECOND_FACTOR, ticket, browser)
        async with self._proofs.attempt(user, is_guessable=code is not None):
            counted = await self.count_attempt(found)
            attempts_left = MAX_ATTEMPTS - counted.attempts
            try:
                proof = await self._proofs.check(
                    user,
                    code=code,
                    recovery_code=recovery_code,
                    passkey=None if passkey is None else _bound(passkey, found),
                )
            except WrongSecondFactor:
                await self._audit.record_separately(
                    EventType.SECOND_FACTOR_REFUSED, user_id=user.id, strategy=counted.strategy
                )
                raise SecondFactorRefused(attempts_left=attempts_left) from None
        use = SecondFactorUse(partial(self._use, counted, proof, attempts_left))
        return self.complete_ticket(counted, user, proof.method, use)

    async def passkey_options(
        self, *, ticket: str | None, browser: str | None, origin: str | None
    ) -> RequestOptions:
        """Returns the options of a passkey as second factor, for a page of `origin`.

        The login is found as by `prove_second_factor`. Raises LoginExpired, PasskeysUnavailable.
        """
        found, user = await self.find(TicketPurpose.SECOND_FACTOR, ticket, browser)
        if found.attempts >= MAX_ATTEMPTS:
            raise LoginExpired
        return await self._proofs.passkeys.options(
            ChallengePurpose.SECOND_FACTOR,
            str(found.id),
            user_id=user.id,
            origin=origin,
            requires_verification=False,
        )

    async def waiting(self, browser: str | None) -> tuple[TicketPurpose, Sequence[FactorMethod]]:
        """Returns what the login in a browser waits for, and the methods that it can go on with.

        Raises LoginExpired if there is no such login.
        """
        ticket = await self._find(None, browser)
        if ticket is None:
            raise LoginExpired
        if ticket.purpose is TicketPurpose.ENROL:
            return ticket.purpose, self._proofs.enrollable
        async with self._database.read() as store:
            return ticket.purpose, await self._proofs.methods(store, ticket.user_id)

    @retry_on_conflict
    async def use_up(self, login: Login) -> None:
        """Uses the second factor of a login up whose strategy has begun no session of ours.

        Raises LoginExpired, SecondFactorRefused or PasskeyRefused if another login has used it up,
        and InvalidCredentials if the account was deactivated or changed meanwhile.
        """
        use = login.second_factor
        if use is None or use.is_applied:
            return
        async with self._database.transaction() as store:
            await lock_unchanged_user(store, login.user.id, login.credentials_version)
            if use.ends_logins:
                await store.sessions.end_all(login.user.id, logins_only=True)
            await use.apply(store)
        use.is_applied = True

    @retry_on_conflict
    async def abandon(self, browser: str) -> None:
        """Ends the login under way in a browser, if there is one."""
        if not is_secret(browser):
            return
        async with self._database.read() as store:
            ticket = await store.login_tickets.find_by_browser(hash_secret(browser), now=now())
        if ticket is not None:
            async with self._database.transaction() as store:
                await store.login_tickets.end_of_browser(hash_secret(browser))

    async def _begin(
        self, proved: Proved, strategy: str, remember: bool, browser: str | None
    ) -> PendingLogin:
        ticket_secret, at = new_secret(), now()
        ticket = LoginTicket(
            id=new_id(),
            user_id=proved.user.id,
            purpose=TicketPurpose.SECOND_FACTOR if proved.user.mfa else TicketPurpose.ENROL,
            strategy=strategy,
            remember=remember,
            scopes=proved.scopes,
            amr=proved.amr,
            credentials_version=proved.credentials_version,
            attempts=0,
            created_at=at,
            expires_at=at + self._settings.login_ticket_lifetime,
            federated=proved.federated,
        )
        bound_to = None if browser is None else hash_secret(browser)
        methods = await self._add(ticket, hash_secret(ticket_secret), bound_to, proved.once)
        text = ticket_secret if browser is None else None
        return PendingLogin(ticket.purpose, text, methods, ticket.expires_at)

    @retry_on_conflict
    async def _add(
        self,
        ticket: LoginTicket,
        secret: SecretHash,
        browser: SecretHash | None,
        once: SingleUse | None,
    ) -> Sequence[FactorMethod]:
        async with self._database.transaction() as store:
            await lock_unchanged_user(store, ticket.user_id, ticket.credentials_version)
            await store.login_tickets.add(ticket, secret, browser=browser)
            if once is not None and not await use_up(store, once):
                raise LoginFlowInvalid
            if ticket.purpose is TicketPurpose.ENROL:
                return self._proofs.enrollable
            return await self._proofs.methods(store, ticket.user_id)

    async def find(
        self, purpose: TicketPurpose, ticket: str | None, browser: str | None
    ) -> tuple[LoginTicket, User]:
        """Returns the login that waits for `purpose`, and its user.

        It is found by `ticket`, or by the cookie of the `browser`. Raises LoginExpired if there is
        no such login, or the account was deactivated or changed since it began.
        """
        found = await self._find(ticket, browser)
        if found is None or found.purpose is not purpose:
            raise LoginExpired
        async with self._database.read() as store:
            row = await store.users.find_credentials(found.user_id)
        if row is None or not row.user.is_active or row.version != found.credentials_version:
            raise LoginExpired
        return found, row.user

    async def _find(self, ticket: str | None, browser: str | None) -> LoginTicket | None:
        text = browser if ticket is None else ticket
        if text is None or not is_secret(text):
            return None
        async with self._database.read() as store:
            if ticket is None:
                return await store.login_tickets.find_by_browser(hash_secret(text), now=now())
            return await store.login_tickets.find_by_secret(hash_secret(text), now=now())

    @retry_on_conflict
    async def count_attempt(self, ticket: LoginTicket) -> LoginTicket:
        """Counts an attempt before a code is compared. Raises LoginExpired if none is left."""
        async with self._database.transaction() as store:
            counted = await store.login_tickets.count_attempt(
                ticket.id, limit=MAX_ATTEMPTS, now=now()
            )
        if counted is None:
            raise LoginExpired
        return counted

    async def _use(
        self, ticket: LoginTicket, proof: SecondFactorProof, attempts_left: int, store: Store
    ) -> None:
        if not await store.login_tickets.consume(ticket.id, now=now()):
            raise LoginExpired
        try:
            await self._proofs.use_up(store, proof)
        except WrongSecondFactor:
            raise SecondFactorRefused(attempts_left=attempts_left) from None

    def complete_ticket(
        self, ticket: LoginTicket, user: User, method: FactorMethod, use: SecondFactorUse
    ) -> CompletedLogin:
        """Returns the login of a ticket whose second factor was proved by `method` now."""
        at, proof = now(), ticket.federated
        if proof is not None:
            use = SecondFactorUse(
                partial(self._use_and_finish, use, user, proof), ends_logins=use.ends_logins
            )
        login = Login(
            user=user,
            credentials_version=ticket.credentials_version,
            # A login at a provider may be much older than this visit.
            auth_time=at if proof is None else proof.auth_time,
            amr=(*ticket.amr, method.amr, MFA),
            scopes=ticket.scopes,
            mfa_at=at,
            second_factor=use,
            federated=proof,
        )
        return CompletedLogin(login, ticket.strategy, ticket.remember)

    async def _use_and_finish(
        self, use: SecondFactorUse, user: User, proof: FederatedProof, store: Store
    ) -> None:
        await use.apply(store)
        await self._finish_federated(store, user, proof, None)

    def _login(self, proved: Proved) -> Login:
        use, proof = proved.second_factor, proved.federated
        if proof is not None:
            use = SecondFactorUse(partial(self._finish, proved.user, proof, proved.once))
        return Login(
            user=proved.user,
            credentials_version=proved.credentials_version,
            auth_time=proved.auth_time,
            amr=proved.amr,
            scopes=proved.scopes,
            mfa_at=proved.mfa_at,
            second_factor=use,
            federated=proof,
        )

    async def _finish(
        self, user: User, proof: FederatedProof, once: SingleUse | None, store: Store
    ) -> None:
        await self._finish_federated(store, user, proof, once)


def _bound(passkey: Assertion, ticket: LoginTicket) -> BoundAssertion:
    return BoundAssertion(passkey, ChallengePurpose.SECOND_FACTOR, str(ticket.id))
