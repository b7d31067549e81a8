"""Verification of passwords: at a login, and again for a user who is already identified."""

import logging
from uuid import UUID

from authapi.clock import now, now_after
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import SecretHash
from authapi.domain.client import current_client
from authapi.domain.email_address import EmailAddress, stored_email
from authapi.domain.events import EventType
from authapi.domain.factors.policy import asks_for_factor
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.domain.username import Username
from authapi.errors import InvalidCredentials, PasswordMismatch, Unavailable, WrongPassword
from authapi.services.accounts.users import lock_user
from authapi.services.audit import Audit
from authapi.services.audit.known_networks import known_network
from authapi.services.hooks import Hooks
from authapi.services.logins.proved import Proved
from authapi.services.passwords import Passwords
from authapi.services.rate_limits import RateLimits
from authapi.services.revalidation import require_live_session
from authapi.settings import Settings
from authapi.storage import Database

_log = logging.getLogger(__name__)


class Authentication:
    """Authenticates users by password, within the rate limits.

    Each call raises Overloaded if too many hashes are waiting, and StorageUnavailable if the
    database does not answer. No database connection is held while a password is hashed.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        rate_limits: RateLimits,
        audit: Audit,
        hooks: Hooks,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._rate_limits = rate_limits
        self._audit = audit
        self._hooks = hooks
        self._settings = settings

    async def authenticate(
        self,
        login_name: EmailAddress | Username,
        password: str,
        *,
        may_continue: bool = False,
        strategy: str | None = None,
        request: object = None,
    ) -> Proved:
        """Verifies the password of a user, who is named by address or user name.

        `may_continue` is whether the client can go on with a second factor. If it cannot, an
        account that has one, or must have one, is refused exactly as for a wrong password.

        An unknown name or address, an account without a password, a deactivated account and, with
        `registration=confirm`, an unconfirmed address cost the same work as a wrong password and
        raise the same error. The attempts of an account are counted together, by either name. No
        database connection is held while the password is hashed.
        `strategy` is the name of the strategy that the login is for; a refusal is recorded with it.
        The hooks `before_login` get `request`, and do not run if it is None. They get the canonical
        address of the account, or an unknown user name as it is.

        Raises the errors of the hooks; InvalidCredentials; TooManyAttempts, before the password is
        verified, if the client or the account is over a rate limit.
        """
        client, account = current_client(), await self._account_of(login_name)
        is_known = known_network(self._database, account, client)
        async with (
            self._audit.recording_throttled(account),
            self._rate_limits.login_attempt(account, client, known_network=is_known),
        ):
            if self._hooks.checks_logins:
                await self._hooks.run_before_login(request, account)
            return await self._authenticate(login_name, password, strategy, may_continue)

    async def confirm_password(
        self,
        user: User,
        password: str,
        *,
        caller: Identity | None = None,
        refusal: EventType = EventType.REAUTHENTICATION_REFUSED,
    ) -> PasswordHash | None:
        """Verifies `password` and returns the hash that it matches.

        The caller of this method compares that hash again once it holds the lock on the user: the
        password may change in between. `caller` is the identity of the request, if it has one;
        `refusal` is the event to record for a wrong password. No connection is held while the
        password is hashed.

        Raises WrongPassword, TooManyAttempts, Overloaded if too many hashes are waiting, and
        StorageUnavailable if the database does not answer.
        """
        account, client = stored_email(user.email).canonical, current_client()
        session_id = caller.session_id if caller else None
        is_known = known_network(self._database, account, client)
        async with (
            self._audit.recording_throttled(account),
            self._rate_limits.confirmation_attempt(
                account, session_id, client, known_network=is_known
            ),
        ):
            return await self._verify(user.id, password, caller, refusal)

    async def reauthenticate(
        self, identity: Identity, password: str, *, new_secret_hash: SecretHash | None
    ) -> None:
        """Verifies the password of the caller; their session then counts as freshly logged in.

        `new_secret_hash` replaces the secret of the session, as in `change_password`.

        Raises WrongPassword, TooManyAttempts, NotFound if the account is deleted,
        InvalidCredential if the session of the caller has ended.
        """
        verified_hash = await self.confirm_password(identity.user, password, caller=identity)
        async with self._database.transaction() as store:
            user, current_hash = await lock_user(store, identity.user.id)
            if current_hash != verified_hash:
                raise WrongPassword
            session = await require_live_session(store, identity)
            if session is not None:
                at = now_after(identity.auth_time)
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
                amr=["pwd"],
            )

    async def _account_of(self, login_name: EmailAddress | Username) -> str:
        """Returns the name that the attempts of an account are counted by: its canonical address.

        An unknown user name is counted by itself. It has no `@`, so it differs from every address.
        """
        if isinstance(login_name, EmailAddress):
            return login_name.canonical
        async with self._database.read() as store:
            email = await store.users.find_email_by_username(login_name.canonical)
        return login_name.canonical if email is None else email

    async def _authenticate(
        self,
        login_name: EmailAddress | Username,
        password: str,
        strategy: str | None,
        may_continue: bool,
    ) -> Proved:
        async with self._database.read() as store:
            if isinstance(login_name, Username):
                row = await store.users.find_credentials_by_username(login_name.canonical)
            else:
                row = await store.users.find_credentials_by_email(login_name.canonical)
        user, stored, version = row or (None, None, 0)
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            stored = None
        is_refused = user is not None and not may_continue and asks_for_factor(user, self._settings)
        if user is None or stored is None or is_refused or not self._may_log_in(user):
            await self._audit.record_separately(
                EventType.LOGIN_REFUSED, user_id=user.id if user else None, strategy=strategy
            )
            raise InvalidCredentials
        await self._rehash(user, password, stored)
        return Proved(user=user, credentials_version=version, auth_time=now(), amr=("pwd",))

    def _may_log_in(self, user: User) -> bool:
        return user.may_log_in(must_confirm=self._settings.registration == "confirm")

    async def _rehash(self, user: User, password: str, stored: PasswordHash) -> None:
        """Replaces `stored` by a hash with the current parameters.

        If the database or the hashing is unavailable, the hash stays and the login succeeds. Raises
        InvalidCredentials if the password was changed meanwhile.
        """
        if not self._passwords.needs_rehash(stored):
            return
        try:
            rehashed = await self._passwords.hash(password)
            async with self._database.transaction() as store:
                if await store.users.replace_hash(user.id, stored, rehashed):
                    return
                row = await store.users.lock(user.id)
        except Unavailable:
            _log.warning("password hash not upgraded: service unavailable")
            return
        # A concurrent login has replaced the hash, or the password was changed.
        try:
            await self._passwords.verify(password, None if row is None else row.password_hash)
        except PasswordMismatch:
            raise InvalidCredentials from None

    async def _verify(
        self, user_id: UUID, password: str, caller: Identity | None, refusal: EventType
    ) -> PasswordHash | None:
        async with self._database.read() as store:
            row = await store.users.find_credentials(user_id)
        stored = None if row is None else row[1]
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            await self._audit.record_separately(
                refusal,
                user_id=user_id,
                session_id=caller.session_id if caller else None,
                strategy=caller.strategy if caller else None,
            )
            raise WrongPassword from None
        return stored
