"""Confirmation, change and reversal of the e-mail address of an account.

A link in a mail authenticates the owner of the mailbox, not the owner of the account. A user who
confirms an address also shows that the account is theirs, by a login or by its password. Without
that, the account may have been registered by another person, and is transferred to the owner of the
mailbox: its password, sessions, tokens, name and own columns are removed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.crypto.passwords import PasswordHash
from authapi.domain.client import current_client
from authapi.domain.email_address import EmailAddress, stored_email
from authapi.domain.email_token import EmailToken, Purpose
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import (
    InputError,
    InvalidInput,
    PreconditionFailed,
    ProofRequired,
    StaleAuthentication,
    WrongPassword,
)
from authapi.services.accounts.authentication import Authentication
from authapi.services.accounts.deferred import DeferredRequests
from authapi.services.accounts.email_tokens import (
    REVOKED_ON_ACCOUNT_CHANGE,
    EmailTokens,
    RedeemedEmailToken,
)
from authapi.services.accounts.passwords import transfer_to_mailbox_owner
from authapi.services.accounts.users import (
    check_not_reserved,
    find_user,
    lock_user,
    next_update_time,
)
from authapi.services.audit import Audit
from authapi.services.factors.removal import remove_factors_since
from authapi.services.mail import Mail, MailKind
from authapi.services.own_columns import OwnColumns
from authapi.services.rate_limits import MailAllowance, RateLimits
from authapi.services.revalidation import require_live_session
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


@dataclass(frozen=True, slots=True)
class PendingEmailChange:
    """A change of address that the owner of the new mailbox has not confirmed yet."""

    email: str
    """The new address, in the spelling of the owner of the account."""
    expires_at: datetime


class EmailChanges:
    """Confirms, changes and reverts the addresses of accounts.

    Each call raises StorageUnavailable if the database does not answer.
    """

    def __init__(
        self,
        database: Database,
        email_tokens: EmailTokens,
        deferred_requests: DeferredRequests,
        authentication: Authentication,
        rate_limits: RateLimits,
        mail: Mail,
        audit: Audit,
        own_columns: OwnColumns,
        settings: Settings,
    ) -> None:
        self._database = database
        self._email_tokens = email_tokens
        self._deferred_requests = deferred_requests
        self._authentication = authentication
        self._rate_limits = rate_limits
        self._mail = mail
        self._audit = audit
        self._own_columns = own_columns
        self._change_lifetime = settings.confirm_lifetime
        self._fresh_max_age = settings.fresh_max_age
        self._sends_mail = settings.sends_mail

    async def confirm_email(
        self,
        token: str,
        *,
        password: str | None = None,
        caller: Identity | None = None,
        entered_email: EmailAddress | None = None,
    ) -> None:
        """Confirms the address that `token` is bound to: that of the account, or its next one.

        `caller`, logged in to the account, or its `password` authenticates the owner of the
        account. Without either, the token must be for the address of the account, and
        `entered_email` must be that address: the account is then transferred to the owner of the
        mailbox, who gets a link to choose a password.

        Raises InvalidOneTimeSecret; ProofRequired if `caller` has another account, or a change of
        address lacks `caller` and `password`; InvalidInput if `entered_email` is another address;
        WrongPassword; InvalidCredential if the session of `caller` has ended; EmailTaken;
        TooManyAttempts; and Overloaded if too many hashes are waiting.
        """
        email_token, user = await self._email_tokens.peek(token, Purpose.CONFIRM, Purpose.CHANGE)
        if caller is not None and caller.user.id != user.id:
            raise ProofRequired
        verified_hash: PasswordHash | None = None
        if caller is None and password is not None:
            verified_hash = await self._authentication.confirm_password(user, password)
        is_owner = caller is not None or password is not None
        if not is_owner:
            if entered_email is None or email_token.purpose is Purpose.CHANGE:
                raise ProofRequired
            await self._check_entered_email(email_token, user, entered_email)
        async with (
            self._allow_notice(email_token, user) as allowance,
            self._database.transaction() as store,
        ):
            if email_token.purpose is Purpose.CHANGE:
                await _lock_addresses(store, email_token, user)
            redeemed = await self._email_tokens.redeem(store, token, email_token.purpose)
            if caller is not None:
                await require_live_session(store, caller)
            elif password is not None and redeemed.password != verified_hash:
                raise WrongPassword  # the password was changed during the verification
            if email_token.purpose is Purpose.CHANGE:
                await self._change_email(store, redeemed, allowance)
            elif is_owner:
                at = next_update_time(redeemed.user)
                await store.users.confirm_email(redeemed.user.id, at=at)
                await self._audit.record(store, EventType.EMAIL_CONFIRMED, user_id=user.id)
            else:
                await self._confirm_and_transfer(store, redeemed)

    async def request_email_change(
        self, caller: Identity, email: EmailAddress, *, password: str | None
    ) -> None:
        """Mails a link to `email`; the account of `caller` gets that address once it is confirmed.

        `caller` gives the password or has a fresh login. The response is the same if `email` is
        taken: a mail tells its owner.

        Raises StaleAuthentication if there is neither a password nor a fresh login, WrongPassword,
        TooManyAttempts, NotFound if the account is deleted, InvalidCredential if the session of
        `caller` has ended, Overloaded if too many hashes are waiting.
        """
        verified_hash: PasswordHash | None = None
        if password is not None:
            verified_hash = await self._authentication.confirm_password(
                caller.user, password, caller=caller
            )
        elif not caller.amr or now() - caller.auth_time > self._fresh_max_age:
            raise StaleAuthentication(max_age=int(self._fresh_max_age.total_seconds()))
        async with self._audit.recording_throttled(stored_email(caller.user.email).canonical):
            await self._rate_limits.consume_mail_request(current_client())
        async with self._database.transaction() as store:
            user, current_hash = await lock_user(store, caller.user.id)
            if password is not None and current_hash != verified_hash:
                raise WrongPassword
            await require_live_session(store, caller)
            await self._deferred_requests.submit_email_change(store, user, email)
            await self._audit.record(
                store,
                EventType.EMAIL_CHANGE_REQUESTED,
                user_id=user.id,
                session_id=caller.session_id,
                strategy=caller.strategy,
            )

    async def pending_change(self, user: User) -> PendingEmailChange | None:
        """Returns the change of address that waits for the link in a mail; None without one."""
        async with self._database.read() as store:
            token = await store.email_tokens.find_of_user(user.id, Purpose.CHANGE, now=now())
            if token is None:
                return None
            if token.password_version != await store.users.password_version(user.id):
                return None
        return PendingEmailChange(token.email_given, token.expires_at)

    @retry_on_conflict
    async def cancel_change(self, caller: Identity) -> None:
        """Ends the link that would change the address of the caller.

        Does nothing if there is none. Raises NotFound if the account is deleted, InvalidCredential
        if the session of the caller has ended.
        """
        async with self._database.transaction() as store:
            user, _ = await lock_user(store, caller.user.id)
            await require_live_session(store, caller)
            await store.email_tokens.delete_for_user(user.id, [Purpose.CHANGE])

    async def revert_email_change(self, token: str, *, entered_email: EmailAddress) -> None:
        """Gives the account its previous address back, and transfers it to the mailbox owner.

        Removes the password and ends all sessions, because the change was made with one of them,
        and mails a link to choose a password. `entered_email` must be the previous address: mail
        scanners open links and submit forms, but do not fill them in.

        Raises InvalidOneTimeSecret, EmailTaken, TooManyAttempts, InvalidInput if `entered_email`
        is another address.
        """
        email_token, user = await self._email_tokens.peek(token, Purpose.REVERT_EMAIL_CHANGE)
        await self._check_entered_email(email_token, user, entered_email)
        await self._revert(token, email_token, user)

    @retry_on_conflict
    async def confirm_for_operator(self, user_id: UUID) -> User:
        """Marks the address of an account as confirmed, without a mail; returns the account.

        Raises NotFound.
        """
        async with self._database.transaction() as store:
            user, _ = await lock_user(store, user_id)
            if user.email_confirmed_at is None:
                await store.users.confirm_email(user.id, at=next_update_time(user))
                await self._audit.record(store, EventType.EMAIL_CONFIRMED, user_id=user.id)
            return await self._own_columns.load(store, await find_user(store, user_id))

    @retry_on_conflict
    async def change_for_operator(self, user_id: UUID, email: EmailAddress) -> User:
        """Gives an account another address, which counts as confirmed; returns the account.

        Mailed links of the account end. A confirmed previous address gets a mail with a link that
        reverts the change. Raises NotFound, EmailTaken, and PreconditionFailed if the account gets
        another address at the same time.
        """
        async with self._database.read() as store:
            previous = stored_email((await find_user(store, user_id)).email)
        async with self._database.transaction() as store:
            await store.users.lock_addresses(previous.canonical, email.canonical)
            user, _ = await lock_user(store, user_id)
            old = stored_email(user.email)
            if old.canonical != previous.canonical:
                raise PreconditionFailed
            await store.users.set_email(
                user.id, email=email.canonical, given=email.original, at=next_update_time(user)
            )
            await check_not_reserved(store, user, email.canonical)
            await store.email_tokens.delete_for_user(user.id, REVOKED_ON_ACCOUNT_CHANGE)
            await self._audit.record(store, EventType.EMAIL_CHANGED, user_id=user.id)
            is_other = old.canonical != email.canonical
            if is_other and user.email_confirmed_at is not None and self._sends_mail:
                await self._email_tokens.send(store, user, MailKind.EMAIL_CHANGED, email=old)
            return await self._own_columns.load(store, await find_user(store, user_id))

    @retry_on_conflict
    async def _revert(self, token: str, email_token: EmailToken, user: User) -> None:
        async with self._database.transaction() as store:
            await _lock_addresses(store, email_token, user)
            redeemed = await self._email_tokens.redeem(store, token, Purpose.REVERT_EMAIL_CHANGE)
            email_token, user = redeemed.token, redeemed.user
            await store.users.set_email(
                user.id,
                email=email_token.email,
                given=email_token.email_given,
                at=next_update_time(user),
            )
            # Later tokens of this purpose were mailed to addresses that an attacker may have set.
            await store.email_tokens.delete_for_user(
                user.id, [Purpose.REVERT_EMAIL_CHANGE], since=email_token.created_at
            )
            await self._audit.record(store, EventType.EMAIL_CHANGE_REVERTED, user_id=user.id)
            await self._remove_later_factors(store, user, email_token.created_at)
            reverted, _ = await lock_user(store, user.id)
            owned = await transfer_to_mailbox_owner(
                store, reverted, None, own_columns=self._own_columns
            )
            await self._email_tokens.send(store, owned, MailKind.RESET)

    async def _remove_later_factors(self, store: Store, user: User, changed_at: datetime) -> None:
        """Removes what was added to the ways in since a change of address was asked for.

        The person who changed the address may have added second factors and identities at
        providers. `changed_at` is when it changed.
        """
        window = first_id_at(changed_at - self._change_lifetime)
        kind = EventType.EMAIL_CHANGE_REQUESTED
        asked_at = await store.events.first_since(user.id, kind, window)
        since = changed_at if asked_at is None else min(asked_at, changed_at)
        if await remove_factors_since(store, user, since):
            await self._audit.record(
                store,
                EventType.FACTOR_REMOVED,
                user_id=user.id,
                because=EventType.EMAIL_CHANGE_REVERTED.value,
            )
        if await store.identities.remove_since(user.id, since):
            await self._audit.record(
                store,
                EventType.IDENTITY_UNLINKED,
                user_id=user.id,
                because=EventType.EMAIL_CHANGE_REVERTED.value,
            )

    async def _check_entered_email(
        self, email_token: EmailToken, user: User, entered_email: EmailAddress
    ) -> None:
        """Checks that `entered_email` is the address that the token is bound to.

        Attempts are rate limited as logins are, but under the id of the token: attempts at one
        link do not affect other links, and one network alone cannot lock the owner out. Raises
        InvalidInput, TooManyAttempts.
        """
        async with (
            self._audit.recording_throttled(stored_email(user.email).canonical),
            self._rate_limits.login_attempt(str(email_token.id), current_client()),
        ):
            if entered_email.canonical != email_token.email:
                message = "is not the address that the mail was sent to"
                raise InvalidInput(InputError(("body", "email"), "email_mismatch", message))

    @asynccontextmanager
    async def _allow_notice(
        self, email_token: EmailToken, user: User
    ) -> AsyncIterator[MailAllowance]:
        """Context manager around a change of address: may a mail to the old address be sent?

        A confirmed address is always told. Mail to an unconfirmed address is rate limited, because
        any account can claim the address of another person.
        """
        if email_token.purpose is not Purpose.CHANGE or user.email_confirmed_at is not None:
            yield MailAllowance(is_allowed=True)
            return
        address = stored_email(user.email).canonical
        async with self._rate_limits.allow_mail(MailKind.EMAIL_CHANGED.value, address) as allowance:
            yield allowance

    async def _change_email(
        self, store: Store, redeemed: RedeemedEmailToken, allowance: MailAllowance
    ) -> None:
        user, token = redeemed.user, redeemed.token
        old = stored_email(user.email)
        await store.users.set_email(
            user.id, email=token.email, given=token.email_given, at=next_update_time(user)
        )
        await check_not_reserved(store, user, token.email)
        await store.email_tokens.delete_for_user(user.id, REVOKED_ON_ACCOUNT_CHANGE)
        await self._audit.record(store, EventType.EMAIL_CHANGED, user_id=user.id)
        if old.canonical == token.email or not allowance.is_allowed:
            return
        if user.email_confirmed_at is not None:
            await self._email_tokens.send(store, user, MailKind.EMAIL_CHANGED, email=old)
        else:
            # An unconfirmed address may be a typing error and belong to another person, who must
            # not get the account. So the mail to it has no link.
            await self._mail.queue(store, MailKind.EMAIL_CHANGED, user, to=old.original)
        allowance.is_used = True

    async def _confirm_and_transfer(self, store: Store, redeemed: RedeemedEmailToken) -> None:
        user = await transfer_to_mailbox_owner(
            store, redeemed.user, None, own_columns=self._own_columns
        )
        await self._audit.record(store, EventType.EMAIL_CONFIRMED, user_id=user.id)
        await self._email_tokens.send(store, user, MailKind.RESET)


async def _lock_addresses(store: Store, email_token: EmailToken, user: User) -> None:
    """Locks the current address of `user` and the address that `email_token` is bound to.

    If the account gets another address before it is locked, the token of a change ends with that,
    and redeeming it fails.
    """
    await store.users.lock_addresses(stored_email(user.email).canonical, email_token.email)
