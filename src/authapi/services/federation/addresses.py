"""Logins that wait for an address: the person enters one, and the usual mail confirms it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from authapi.domain.email_address import EmailAddress
from authapi.domain.email_token import Purpose
from authapi.errors import IdentityTaken, LinkRequired, LoginExpired, RegistrationClosed
from authapi.services.accounts.deferred import DeferredRequests
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.federation.arrivals import Arrivals
from authapi.services.federation.email_tickets import LIFETIME, EmailTickets, OpenedTicket
from authapi.services.federation.once import has_ended, used_text
from authapi.services.federation.people import checked
from authapi.services.federation.sign_up import FederatedSignUp
from authapi.services.logins.proved import Proved
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict


@dataclass(frozen=True, slots=True)
class ContinuedLogin:
    """A login that has its address now, and what it asked for when it began."""

    proved: Proved
    strategy: str
    remember: bool
    continue_to: str | None


class FederatedAddresses:
    """Goes on with the tickets of `EmailNeeded`.

    Each method raises LoginExpired if the ticket is not valid any longer, RegistrationClosed if the
    settings or a hook allow no account, the errors of the hooks, and StorageUnavailable if the
    database does not answer.
    """

    def __init__(
        self,
        database: Database,
        arrivals: Arrivals,
        sign_up: FederatedSignUp,
        tickets: EmailTickets,
        deferred: DeferredRequests,
        email_tokens: EmailTokens,
        settings: Settings,
    ) -> None:
        self._database = database
        self._arrivals = arrivals
        self._sign_up = sign_up
        self._tickets = tickets
        self._deferred = deferred
        self._email_tokens = email_tokens
        self._settings = settings

    async def give(
        self, ticket: str, email: EmailAddress, *, request: object = None
    ) -> ContinuedLogin | None:
        """Goes on with `email`; returns the login, or None if a mail confirms the address first.

        With open registration, an account with the address, which is not confirmed, is created.
        With `registration=confirm`, the answer and its timing do not depend on the accounts: the
        link in the mail is for `confirm`, and the ticket still works.

        Raises LinkRequired, only with open registration, if an account has the address;
        TooManyAttempts; InvalidInput or ProfileTaken if an account needs own columns.
        """
        opened = await self._open(ticket)
        self._sign_up.check_profile()
        if self._settings.registration == "open":
            proved = await self._arrivals.provide(
                opened.person,
                email,
                strategy=opened.strategy,
                once=used_text(opened.state, opened.expires_at),
                request=request,
            )
            return _continued(opened, proved)
        async with self._recording(opened):
            await self._sign_up.check_allowed(opened.person, email, request=request)
        await self._deferred.submit_provision(
            email, opened.person.provider, self._settings.provider_title(opened.person.provider)
        )
        return None

    @retry_on_conflict
    async def confirm(self, ticket: str, token: str, *, request: object = None) -> ContinuedLogin:
        """Goes on with the `token` of the mailed link, in the browser that has the ticket.

        The account with the address is transferred to the person, whom it is linked to: what was
        there before may come from another person, and goes.

        Raises InvalidOneTimeSecret if the link does not work, LinkRequired if the address of the
        account was confirmed before, and IdentityTaken if another account has the identity. Both
        leave ticket and link usable.
        """
        opened = await self._open(ticket)
        once = used_text(opened.state, opened.expires_at)
        person = checked(opened.person)  # a second factor may be too old by now
        _, owner = await self._email_tokens.peek(token, Purpose.CONFIRM)
        async with self._recording(opened, owner.id):
            await self._sign_up.check_allowed(person, None, request=request)
            async with self._database.transaction() as store:
                redeemed = await self._email_tokens.redeem(store, token, Purpose.CONFIRM)
                user = redeemed.user
                if user.email_confirmed_at is not None:
                    raise self._arrivals.link_required()
                provisioned = await self._sign_up.transfer(store, user, person)
        return _continued(opened, self._arrivals.proved(provisioned, person, once))

    @asynccontextmanager
    async def _recording(
        self, opened: OpenedTicket, user_id: UUID | None = None
    ) -> AsyncIterator[None]:
        """Records a refusal of this login, outside of the transaction that it ends."""
        try:
            yield
        except (IdentityTaken, LinkRequired, RegistrationClosed) as refusal:
            await self._arrivals.record_refusal(
                opened.person.provider, refusal.code, strategy=opened.strategy, user_id=user_id
            )
            raise

    async def _open(self, ticket: str) -> OpenedTicket:
        opened = self._tickets.open(ticket)
        if await has_ended(self._database, opened.sealed_at, LIFETIME):
            raise LoginExpired
        allows = self._settings.registration in {"open", "confirm"}
        if not allows or self._settings.federation_linking == "never":
            raise RegistrationClosed
        return opened


def _continued(opened: OpenedTicket, proved: Proved) -> ContinuedLogin:
    return ContinuedLogin(proved, opened.strategy, opened.remember, opened.continue_to)
