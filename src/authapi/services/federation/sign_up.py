"""Accounts that are created, or taken over, for a person at a provider."""

from dataclasses import dataclass, replace
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.client import current_client
from authapi.domain.email_address import EmailAddress, stored_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.federation.person import Person, Provision
from authapi.domain.user import User
from authapi.errors import NotFound, RegistrationClosed
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.passwords import transfer_to_mailbox_owner
from authapi.services.accounts.users import add_user, new_user, next_update_time
from authapi.services.audit import Audit
from authapi.services.federation.links import IdentityLinks
from authapi.services.federation.people import shown_name
from authapi.services.hooks import HookError, Hooks
from authapi.services.mail import MailKind
from authapi.services.own_columns import OwnColumns
from authapi.services.rate_limits import RateLimits
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict
from authapi.storage.tables.users import Credentials


@dataclass(frozen=True, slots=True)
class Provisioned:
    """An account that is linked to a person, as a login needs it."""

    user: User
    credentials_version: int
    identity_id: UUID


class FederatedSignUp:
    """Creates accounts for people, and takes over those whose address was never confirmed.

    Each method raises the errors of the hooks, and StorageUnavailable if the database does not
    answer.
    """

    def __init__(
        self,
        database: Database,
        links: IdentityLinks,
        email_tokens: EmailTokens,
        rate_limits: RateLimits,
        audit: Audit,
        hooks: Hooks,
        own_columns: OwnColumns,
        settings: Settings,
    ) -> None:
        self._database = database
        self._links = links
        self._email_tokens = email_tokens
        self._rate_limits = rate_limits
        self._audit = audit
        self._hooks = hooks
        self._own_columns = own_columns
        self._settings = settings

    async def check_allowed(
        self, person: Person, email: EmailAddress | None, *, request: object
    ) -> None:
        """Runs the hooks that may refuse an account for a person, outside of a transaction.

        The hooks `before_register` get `request`, and do not run if it or `email` is None. Raises
        RegistrationClosed if a hook `may_provision` returns False.
        """
        if not await self._hooks.may_provision_person(person):
            raise RegistrationClosed
        if email is not None:
            await self._hooks.run_before_register(request, email.canonical)

    async def count(self) -> None:
        """Counts a registration of the current client. Raises TooManyAttempts."""
        async with self._audit.recording_throttled():
            await self._rate_limits.consume_registration(current_client())

    def check_profile(self) -> None:
        """Checks that an account needs no own columns. Raises InvalidInput if it does."""
        self._own_columns.new(None)

    @retry_on_conflict
    async def create(
        self, person: Person, email: EmailAddress, *, is_confirmed: bool
    ) -> Provisioned:
        """Creates an account with this address, and links the person to it.

        The address is confirmed by the provider, or, if mail is sent, by the usual mail. Raises
        EmailTaken if an account has the address or can revert to it, IdentityTaken if an account
        has the identity, and InvalidInput or ProfileTaken if an account needs own columns.
        """
        profile = self._own_columns.new(None)
        identity_id = new_id()
        async with (
            self._rate_limits.allow_mail("register", email.canonical) as allowance,
            self._database.transaction() as store,
        ):
            await store.users.lock_addresses(email.canonical)
            provision = await self._provision(person)
            user = new_user(email, name=_name(person, provision))
            user = replace(
                user,
                email_confirmed_at=user.created_at if is_confirmed else None,
                roles=_roles(provision) or frozenset(),
            )
            await add_user(store, user, email, None)
            user = await self._own_columns.add(store, user, profile)
            await self._links.add(store, user, person, identity_id)
            await self._audit.record(
                store,
                EventType.ACCOUNT_REGISTERED,
                user_id=user.id,
                provider=person.provider,
            )
            if not is_confirmed and self._settings.sends_mail and allowance.is_allowed:
                await self._email_tokens.send(store, user, MailKind.CONFIRM)
                allowance.is_used = True
            return await _provisioned(store, user.id, identity_id)

    @retry_on_conflict
    async def take_over(
        self, person: Person, email: EmailAddress, user_id: UUID
    ) -> Provisioned | None:
        """Transfers an account whose address was never confirmed to a person, and links them.

        The provider has proved that the person reads mail at `email`. None if the account is not
        as expected any more. Raises IdentityTaken if an account has the identity.
        """
        async with self._database.transaction() as store:
            row = await store.users.lock(user_id)
            if row is None or not _may_be_taken_over(row, email):
                return None
            await store.sessions.lock_for_user(user_id)
            return await self.transfer(store, row.user, person)

    async def transfer(self, store: Store, user: User, person: Person) -> Provisioned:
        """Transfers a locked account to a person who has proved its address, and links them.

        Its sessions are locked too. Its password, sessions, tokens, second factors and identities
        go, and so do its name and own columns, unless a superuser has entered them for an
        invitation. Raises IdentityTaken if an account has the identity.
        """
        identity_id = new_id()
        is_invited = await store.email_tokens.has_valid(
            user.id, Purpose.INVITATION, stored_email(user.email).canonical, now=now()
        )
        provision = await self._provision(person)
        own_columns = None if is_invited else self._own_columns
        owned = await transfer_to_mailbox_owner(store, user, None, own_columns=own_columns)
        name = _name(person, provision)
        if name is not None and (not is_invited or owned.name is None):
            await store.users.set_name(owned.id, name, at=next_update_time(owned))
        roles = _roles(provision)
        if roles is not None and not is_invited:
            await store.users.set_roles(owned.id, roles, at=next_update_time(owned))
        await self._links.add(store, owned, person, identity_id)
        await self._audit.record(
            store, EventType.EMAIL_CONFIRMED, user_id=owned.id, provider=person.provider
        )
        await self._links.tell_of_link(store, owned, person)
        return await _provisioned(store, owned.id, identity_id)

    async def _provision(self, person: Person) -> Provision:
        provision = await self._hooks.provision(person)
        unknown = set(provision.roles or ()).difference(self._settings.roles)
        if unknown:
            raise HookError(f"a hook of on_provision returned the unknown role {min(unknown)!r}")
        return provision


def _may_be_taken_over(row: Credentials, email: EmailAddress) -> bool:
    user = row.user
    is_same = stored_email(user.email).canonical == email.canonical
    return is_same and user.is_active and user.email_confirmed_at is None


def _name(person: Person, provision: Provision) -> str | None:
    return provision.name or shown_name(person)


def _roles(provision: Provision) -> frozenset[str] | None:
    return provision.roles


async def _provisioned(store: Store, user_id: UUID, identity_id: UUID) -> Provisioned:
    row = await store.users.find_credentials(user_id)
    if row is None:
        raise NotFound
    return Provisioned(row.user, row.version, identity_id)
