"""Accounts: authentication, passwords, profile, lookup and deletion."""

import logging
from collections.abc import Callable, Mapping
from uuid import UUID

from authapi.clock import now
from authapi.crypto.password_normalization import opaque_string
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import SecretHash
from authapi.domain.client import Client, current_client, on_behalf_of
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.domain.user import User
from authapi.errors import (
    InputError,
    InvalidCredentials,
    InvalidInput,
    NotFound,
    PasswordMismatch,
    PreconditionFailed,
    Unavailable,
    WrongPassword,
)
from authapi.services.accounts.deletion import delete_account
from authapi.services.accounts.password_confirmation import PasswordConfirmation, known_network
from authapi.services.accounts.users import (
    TIME_RESOLUTION,
    add_user,
    check_locale,
    lock_superusers,
    lock_user,
    new_user,
    next_update_time,
)
from authapi.services.audit import Audit
from authapi.services.mail import Mail, MailKind
from authapi.services.passwords import Passwords
from authapi.services.rate_limits import RateLimits
from authapi.services.revalidation import require_live_session
from authapi.services.sessions.login import Login
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.conflicts import retry_on_conflict

_log = logging.getLogger(__name__)


class Accounts:
    """Authenticates users by password, and creates, changes and deletes accounts.

    Each call raises StorageUnavailable if the database does not answer. A call that hashes or
    verifies a password also raises Overloaded if too many hashes are waiting.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        password_confirmation: PasswordConfirmation,
        rate_limits: RateLimits,
        audit: Audit,
        mail: Mail,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._password_confirmation = password_confirmation
        self._rate_limits = rate_limits
        self._audit = audit
        self._mail = mail
        self._settings = settings

    async def create(
        self,
        email: EmailAddress,
        password: str | None,
        *,
        name: str | None = None,
        is_superuser: bool = False,
    ) -> User:
        """Creates an account for an operator. An account without a password cannot log in.

        Raises InvalidInput if the password policy rejects `password`, EmailTaken.
        """
        hashed = None
        if password is not None:
            await self._passwords.check_policy(password, email=email.canonical)
            hashed = await self._passwords.hash(password)
        user = new_user(email, name=name, is_superuser=is_superuser)
        async with self._database.transaction() as store:
            await store.users.lock_addresses(email.canonical)
            await add_user(store, user, email, hashed)
            await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
        return user

    async def authenticate(
        self, email: EmailAddress, password: str, *, strategy: str | None = None
    ) -> Login:
        """Authenticates a user by address and password.

        An unknown address, an account without a password, a deactivated account and, with
        `registration=confirm`, an unconfirmed address cost the same work as a wrong password and
        raise the same error. No database connection is held while the password is hashed.
        `strategy` is the name of the strategy that the login is for; a refusal is recorded with it.

        Raises InvalidCredentials; TooManyAttempts, before the password is verified, if the client
        or the account is over a rate limit.
        """
        client = current_client()
        is_known = known_network(self._database, email.canonical, client)
        async with (
            self._audit.recording_throttled(email.canonical),
            self._rate_limits.login_attempt(email.canonical, client, known_network=is_known),
        ):
            return await self._authenticate(email, password, strategy)

    async def _authenticate(
        self, email: EmailAddress, password: str, strategy: str | None
    ) -> Login:
        async with self._database.read() as store:
            row = await store.users.find_credentials_by_email(email.canonical)
        user, stored = row or (None, None)
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            stored = None
        if user is None or stored is None or not self._may_log_in(user):
            await self._audit.record_separately(
                EventType.LOGIN_REFUSED, user_id=user.id if user else None, strategy=strategy
            )
            raise InvalidCredentials
        verified_hash = await self._rehash(user, password, stored)
        return Login(user=user, verified_hash=verified_hash, auth_time=now())

    def _may_log_in(self, user: User) -> bool:
        is_confirmed = user.email_confirmed_at is not None
        return user.is_active and (is_confirmed or self._settings.registration != "confirm")

    async def change_password(
        self, identity: Identity, *, current: str, new: str, new_secret_hash: SecretHash | None
    ) -> None:
        """Changes the password of the caller, and ends all sessions but the one of the caller.

        `new_secret_hash` replaces the secret of that session: an attacker who has copied the old
        secret is logged out, and the session counts as freshly logged in. All refresh tokens end.

        Raises InvalidInput if the password policy rejects `new` or it equals `current`,
        WrongPassword, TooManyAttempts, NotFound if the account is deleted, InvalidCredential if
        the session of the caller has ended.
        """
        account = parse_email(identity.user.email).canonical
        await self._passwords.check_policy(new, field="new_password", email=account)
        verified_hash = await self._password_confirmation.confirm_password(
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
            await store.sessions.end_all(user.id, keep=keep)
            await store.refresh_families.delete_for_user(user.id)
            if session is not None and session.kind is SessionKind.JWT:
                # Without a refresh token, the session cannot outlive its current access token.
                await store.sessions.limit_expiry(session.id, now() + self._settings.jwt_lifetime)
            if new_secret_hash is not None and identity.session_id is not None:
                # Strictly later than before: `require_live_session` tells holders of the old
                # secret from those of the new one by this time.
                at = max(now(), identity.auth_time + TIME_RESOLUTION)
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

    async def reauthenticate(
        self, identity: Identity, password: str, *, new_secret_hash: SecretHash | None
    ) -> None:
        """Verifies the password of the caller; their session then counts as freshly logged in.

        `new_secret_hash` replaces the secret of the session, as in `change_password`.

        Raises WrongPassword, TooManyAttempts, NotFound if the account is deleted,
        InvalidCredential if the session of the caller has ended.
        """
        verified_hash = await self._password_confirmation.confirm_password(
            identity.user, password, caller=identity
        )
        async with self._database.transaction() as store:
            user, current_hash = await lock_user(store, identity.user.id)
            if current_hash != verified_hash:
                raise WrongPassword
            session = await require_live_session(store, identity)
            if session is not None:
                at = max(now(), identity.auth_time + TIME_RESOLUTION)
                if new_secret_hash is None:
                    await store.sessions.set_auth_time(session.id, auth_time=at)
                else:
                    await store.sessions.replace_secret(session.id, new_secret_hash, auth_time=at)
            await self._audit.record(
                store,
                EventType.REAUTHENTICATED,
                user_id=user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
            )

    async def set_password(self, user_id: UUID, password: str) -> None:
        """Sets the password of an account for an operator, and ends all its sessions.

        Raises NotFound, InvalidInput if the password policy rejects `password`.
        """
        account = parse_email((await self.find(user_id)).email).canonical
        await self._passwords.check_policy(password, email=account)
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user, _ = await lock_user(store, user_id)
            await store.users.set_password(user.id, hashed, at=next_update_time(user))
            await store.sessions.end_all(user.id)
            await self._audit.record(store, EventType.PASSWORD_CHANGED, user_id=user.id)
            await self._mail.queue(store, MailKind.PASSWORD_CHANGED, user)

    @retry_on_conflict
    async def edit(
        self,
        user_id: UUID,
        changes: Mapping[str, str | None],
        *,
        is_stale: Callable[[User], bool],
        caller: Identity | None = None,
    ) -> User:
        """Changes the profile of an account; returns the account.

        `changes` maps fields of `User` that its owner changes, such as `name`, to values.
        `is_stale` gets the current account and returns whether it differs from the version that the
        client has seen. `caller` is the identity of the request, if it has one.

        Raises PreconditionFailed if `is_stale` returns True, NotFound, InvalidInput if the locale
        is not one of the settings, InvalidCredential if the session of `caller` has ended.
        """
        check_locale(changes.get("locale"), self._settings)
        async with self._database.transaction() as store:
            user, _ = await lock_user(store, user_id)
            if caller is not None:
                await require_live_session(store, caller)
            if is_stale(user):
                raise PreconditionFailed
            new = {key: value for key, value in changes.items() if value != getattr(user, key)}
            if new:
                await store.users.set_profile(user_id, new, at=next_update_time(user))
            if "name" in new:
                await self._audit.record(store, EventType.ACCOUNT_RENAMED, user_id=user_id)
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    @retry_on_conflict
    async def delete(self, user_id: UUID, *, caller: Identity | None = None) -> None:
        """Deletes an account with all that belongs to it, if it exists. Ids are never reused.

        The setting `deleted_events` says whether its events are erased or anonymized. The event of
        the deletion is kept; if `caller`, the owner, deletes the account, without address and user
        agent of the client. Raises InvalidCredential if the session of `caller` has ended,
        LastSuperuser, AccountInUse.
        """
        client = current_client()
        if caller is not None:
            client = Client(request_id=client.request_id)
        async with self._database.transaction() as store:
            await lock_superusers(store)
            row = await store.users.lock(user_id)
            if caller is not None:
                await require_live_session(store, caller)
            if row is None:
                return
            with on_behalf_of(lambda: client):
                await delete_account(store, self._audit, row[0], self._settings)

    async def find(self, user_id: UUID) -> User:
        """Returns the account with this id. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find(user_id)
        if user is None:
            raise NotFound
        return user

    async def find_by_email(self, email: EmailAddress) -> User:
        """Returns the account with this address. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find_by_email(email.canonical)
        if user is None:
            raise NotFound
        return user

    async def _rehash(self, user: User, password: str, stored: PasswordHash) -> PasswordHash:
        """Replaces `stored` by a hash with the current parameters; returns the hash now stored.

        If the database or the hashing is unavailable, the hash stays and the login succeeds.
        """
        if not self._passwords.needs_rehash(stored):
            return stored
        try:
            rehashed = await self._passwords.hash(password)
            async with self._database.transaction() as store:
                if await store.users.replace_hash(user.id, stored, rehashed):
                    return rehashed
                row = await store.users.lock(user.id)
        except Unavailable:
            _log.warning("password hash not upgraded: service unavailable")
            return stored
        # A concurrent login has replaced the hash, or the password was changed.
        current_hash = None if row is None else row[1]
        try:
            await self._passwords.verify(password, current_hash)
        except PasswordMismatch:
            raise InvalidCredentials from None
        return rehashed if current_hash is None else current_hash
