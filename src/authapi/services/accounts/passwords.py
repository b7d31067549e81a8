"""Changes of passwords, and the transfer of an account to the owner of its mailbox."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from authapi.clock import now, now_after
from authapi.crypto.password_normalization import opaque_string
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import SecretHash
from authapi.domain.email_address import stored_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.domain.user import User
from authapi.errors import InputError, InvalidInput, NotFound, WrongPassword
from authapi.services.accounts.authentication import Authentication
from authapi.services.accounts.email_tokens import REVOKED_ON_ACCOUNT_CHANGE, EmailTokens
from authapi.services.accounts.users import find_user, lock_user, next_update_time
from authapi.services.audit import Audit
from authapi.services.factors.removal import remove_all_factors
from authapi.services.mail import Mail, MailKind
from authapi.services.own_columns import OwnColumns
from authapi.services.passwords import Passwords
from authapi.services.revalidation import require_live_session
from authapi.settings import Settings
from authapi.storage import Database, Store

_CHANGES = (
    EventType.PASSWORD_CHANGED,
    EventType.PASSWORD_RESET,
    EventType.INVITATION_ACCEPTED,
)
"""The events that report a new password of an account."""


@dataclass(frozen=True, slots=True)
class PasswordState:
    """Whether an account has a password, and when it was last changed."""

    is_set: bool
    changed_at: datetime | None
    """None if it is as old as the account, or the event has expired."""


class PasswordChanges:
    """Changes passwords for their owners and operators, and resets them by mail.

    Each call raises Overloaded if too many hashes are waiting, and StorageUnavailable if the
    database does not answer.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        authentication: Authentication,
        email_tokens: EmailTokens,
        mail: Mail,
        audit: Audit,
        own_columns: OwnColumns,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._authentication = authentication
        self._email_tokens = email_tokens
        self._mail = mail
        self._audit = audit
        self._own_columns = own_columns
        self._settings = settings

    async def state(self, user_id: UUID) -> PasswordState:
        """Returns what the owner of an account may know about its password. Raises NotFound."""
        async with self._database.read() as store:
            row = await store.users.find_credentials(user_id)
            if row is None:
                raise NotFound
            changed_at = await store.events.last_of(user_id, _CHANGES)
        return PasswordState(row.password_hash is not None, changed_at)

    async def change(
        self, identity: Identity, *, current: str, new: str, new_secret_hash: SecretHash | None
    ) -> int:
        """Changes the password of the caller, and ends all sessions but the one of the caller.

        Returns how many sessions and personal access tokens have ended. `new_secret_hash` replaces
        the secret of that session: an attacker who has copied the old secret is logged out, and the
        session counts as freshly logged in. All refresh tokens end.

        Raises InvalidInput if the password policy rejects `new` or it equals `current`,
        WrongPassword, TooManyAttempts, NotFound if the account is deleted, InvalidCredential if
        the session of the caller has ended.
        """
        account = stored_email(identity.user.email).canonical
        await self._passwords.check_policy(
            new, field="new_password", email=account, username=identity.user.username
        )
        verified_hash = await self._authentication.confirm_password(
            identity.user,
            current,
            caller=identity,
            refusal=EventType.PASSWORD_CHANGE_REFUSED,
        )
        if opaque_string(new) == opaque_string(current):
            message = "must differ from the current password"
            raise InvalidInput(InputError(("body", "new_password"), "password_unchanged", message))
        hashed = await self._passwords.hash(new)
        async with self._database.transaction() as store:
            user, current_hash = await lock_user(store, identity.user.id)
            if current_hash != verified_hash:
                raise WrongPassword  # the password was changed during the verification
            session = await require_live_session(store, identity)
            await store.users.set_password(user.id, hashed, at=next_update_time(user))
            keep = () if identity.session_id is None else (identity.session_id,)
            ended = await store.sessions.end_all(user.id, keep=keep)
            await store.login_tickets.end_all(user.id)
            await store.refresh_families.delete_for_user(user.id)
            if session is not None and session.kind is SessionKind.JWT:
                # Without a refresh token, the session cannot outlive its current access token.
                await store.sessions.limit_expiry(session.id, now() + self._settings.jwt_lifetime)
            if new_secret_hash is not None and identity.session_id is not None:
                # Strictly later than before: `require_live_session` tells holders of the old
                # secret from those of the new one by this time.
                at = now_after(identity.auth_time)
                await store.sessions.replace_secret(
                    identity.session_id, new_secret_hash, auth_time=at
                )
            await self._audit.record(
                store,
                EventType.PASSWORD_CHANGED,
                user_id=user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
            )
            await self._mail.queue(store, MailKind.PASSWORD_CHANGED, user)
        return ended

    async def set(self, user_id: UUID, password: str) -> None:
        """Sets the password of an account for an operator, and ends all its sessions.

        Raises NotFound, InvalidInput if the password policy rejects `password`.
        """
        async with self._database.read() as store:
            account = await find_user(store, user_id)
        await self._passwords.check_policy(
            password, email=stored_email(account.email).canonical, username=account.username
        )
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user, _ = await lock_user(store, user_id)
            await store.users.set_password(user.id, hashed, at=next_update_time(user))
            await store.sessions.end_all(user.id)
            await store.login_tickets.end_all(user.id)
            await self._audit.record(store, EventType.PASSWORD_CHANGED, user_id=user.id)
            await self._mail.queue(store, MailKind.PASSWORD_CHANGED, user)

    async def reset(self, token: str, password: str) -> None:
        """Sets the password of the account that `token` was issued for.

        Ends all its sessions, tokens and e-mailed links, confirms its address, and mails the
        owner. Raises InvalidOneTimeSecret; InvalidInput if the password policy rejects `password`,
        after which `token` still works; Overloaded if too many hashes are waiting; and
        StorageUnavailable if the database does not answer.
        """
        # Hashing takes long and the policy may reject the password: both precede the redemption.
        _, user = await self._email_tokens.peek(token, Purpose.RESET)
        email = stored_email(user.email).canonical
        await self._passwords.check_policy(
            password, email=email, username=user.username, field="new_password"
        )
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user = (await self._email_tokens.redeem(store, token, Purpose.RESET)).user
            changed = await transfer_to_mailbox_owner(
                store, user, hashed, own_columns=self._own_columns
            )
            await self._mail.queue(store, MailKind.PASSWORD_CHANGED, changed)
            await self._audit.record(store, EventType.PASSWORD_RESET, user_id=user.id)


async def transfer_to_mailbox_owner(
    store: Store,
    user: User,
    password: PasswordHash | None,
    *,
    own_columns: OwnColumns | None = None,
) -> User:
    """Transfers the locked account to the person who reads mail at its address; returns it.

    Sets `password`, or removes the password, and ends every session, token and link, so that
    no other person keeps access. The address counts as confirmed now. Second factors, identities at
    providers, name and own columns from before the first confirmation may come from another person
    and are removed, the last two not without `own_columns`: a superuser has entered those of an
    invitation. Second factors and identities of an account whose address was confirmed stay:
    reading mail is one factor. Raises
    NotFound if the account is deleted, AccountInUse as `OwnColumns.reset`.
    """
    at = next_update_time(user)
    await store.users.set_password(user.id, password, at=at)
    is_first = user.email_confirmed_at is None
    if is_first:
        await store.users.confirm_email(user.id, at=at)
        if own_columns is not None:
            await store.users.set_name(user.id, None, at=at)
            await own_columns.reset(store, user)
    await store.sessions.end_all(user.id)  # deletes their refresh families too
    await store.email_tokens.delete_for_user(user.id, REVOKED_ON_ACCOUNT_CHANGE)
    await store.login_tickets.end_all(user.id)
    if is_first:
        await remove_all_factors(store, user)
        await store.identities.remove_all(user.id)
    changed = await store.users.find(user.id)
    if changed is None:
        raise NotFound
    return changed
