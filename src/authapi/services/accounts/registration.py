"""Creation of accounts: by their owners, as the setting `registration` allows, and by operators."""

from authapi.domain.client import current_client
from authapi.domain.email_address import EmailAddress
from authapi.domain.events import EventType
from authapi.domain.user import User
from authapi.domain.username import Username
from authapi.errors import RegistrationClosed
from authapi.services.accounts.deferred import DeferredRequests
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.users import add_user, check_locale, new_user
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.mail import MailKind
from authapi.services.own_columns import OwnColumns, ProfileInput
from authapi.services.passwords import Passwords
from authapi.services.rate_limits import RateLimits
from authapi.services.usernames import check_username
from authapi.settings import Settings
from authapi.storage import Database


class Registration:
    """Registers accounts for unauthenticated clients, and creates accounts for operators."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        deferred_requests: DeferredRequests,
        email_tokens: EmailTokens,
        rate_limits: RateLimits,
        audit: Audit,
        hooks: Hooks,
        own_columns: OwnColumns,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._deferred_requests = deferred_requests
        self._email_tokens = email_tokens
        self._rate_limits = rate_limits
        self._audit = audit
        self._hooks = hooks
        self._own_columns = own_columns
        self._settings = settings

    async def register(
        self,
        email: EmailAddress,
        password: str,
        *,
        name: str | None,
        locale: str | None = None,
        username: Username | None = None,
        profile: ProfileInput | None = None,
        request: object = None,
    ) -> User | None:
        """Registers an account; returns it, or None if its address must be confirmed first.

        With `registration=confirm`, the client does not learn whether the address is taken: the
        work is the same in both cases, and a mail tells the owner of the address. The user name is
        taken from this moment on, in both cases: otherwise it would tell them apart. The hooks
        `before_register` get `request`, and do not run if it is None. `profile` are own columns;
        None stands for the defaults of the application.

        Raises the errors of the hooks; RegistrationClosed; TooManyAttempts; InvalidInput if the
        locale is unknown, the password policy rejects `password`, the setting `login_identifier`
        the user name, or the profile is incomplete or cannot be stored; ProfileTaken; Overloaded if
        too many hashes are waiting; UsernameTaken; EmailTaken, only
        with `registration=open`; and StorageUnavailable if the database does not answer.
        """
        if self._settings.registration not in {"open", "confirm"}:
            raise RegistrationClosed
        check_locale(locale, self._settings)
        check_username(username, self._settings.login_identifier)
        profile = self._own_columns.new(profile)
        async with self._audit.recording_throttled():
            await self._rate_limits.consume_registration(current_client())
        await self._hooks.run_before_register(request, email.canonical)
        await self._check_password(password, email, username)
        # Also a conflict that the job would find, because the job answers no client.
        await self._own_columns.check_free(profile)
        hashed = await self._passwords.hash(password)
        if self._settings.registration == "confirm":
            details: dict[str, object] = {
                "name": name,
                "locale": locale,
                "password_hash": hashed.text,
            }
            if profile is not None:
                details["profile"] = profile.raw
            await self._deferred_requests.submit_registration(email, details, username=username)
            return None
        user = new_user(email, name=name, username=username, locale=locale)
        async with (
            self._rate_limits.allow_mail("register", email.canonical) as allowance,
            self._database.transaction() as store,
        ):
            await store.users.lock_addresses(email.canonical)
            await add_user(store, user, email, hashed)
            user = await self._own_columns.add(store, user, profile)
            await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
            if self._settings.sends_mail and allowance.is_allowed:
                await self._email_tokens.send(store, user, MailKind.CONFIRM)
                allowance.is_used = True
        return user

    async def create(
        self,
        email: EmailAddress,
        password: str | None,
        *,
        name: str | None = None,
        username: Username | None = None,
        is_superuser: bool = False,
        profile: ProfileInput | None = None,
    ) -> User:
        """Creates an account for an operator. An account without a password cannot log in.

        Raises InvalidInput if the password policy rejects `password`, the setting
        `login_identifier` the user name, or the profile is incomplete or cannot be stored;
        ProfileTaken; EmailTaken; UsernameTaken.
        """
        check_username(username, self._settings.login_identifier)
        profile = self._own_columns.new(profile)
        hashed = None
        if password is not None:
            await self._check_password(password, email, username)
            hashed = await self._passwords.hash(password)
        user = new_user(email, name=name, username=username, is_superuser=is_superuser)
        async with self._database.transaction() as store:
            await store.users.lock_addresses(email.canonical)
            await add_user(store, user, email, hashed)
            user = await self._own_columns.add(store, user, profile)
            await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
        return user

    async def _check_password(
        self, password: str, email: EmailAddress, username: Username | None
    ) -> None:
        name = None if username is None else username.canonical
        await self._passwords.check_policy(password, email=email.canonical, username=name)
