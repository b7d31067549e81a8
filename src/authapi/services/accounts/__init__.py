"""Accounts: registered, proved by password, changed and removed."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import first_id_at, new_id
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import SecretHash
from authapi.errors import (
    InputError,
    InvalidCredentials,
    InvalidInput,
    NotFound,
    PasswordMismatch,
    PreconditionFailed,
    RegistrationClosed,
    TooManyAttempts,
    Unavailable,
    WrongPassword,
)
from authapi.identity import (
    NO_NETWORK,
    Client,
    EventType,
    Identity,
    SessionKind,
    User,
    current_client,
)
from authapi.services.accounts import standing
from authapi.services.accounts.standing import later_than as _after
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.alive import require_alive
from authapi.services.audit import Audit
from authapi.services.passwords import Passwords
from authapi.services.sessions import Login
from authapi.services.throttle import AtHome, Throttle
from authapi.settings import Settings
from authapi.storage import Database, Store

_log = logging.getLogger(__name__)

_HOME_FOR = timedelta(days=90)
"""How long after a login its network counts as one that the owner of the account is at."""
_MOMENT = timedelta(microseconds=1)
"""The least that two times in the database can differ by."""


class Accounts:
    """Accounts, and the proof that a caller owns one."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        throttle: Throttle,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._throttle = throttle
        self._audit = audit
        self._settings = settings

    async def register(self, email: EmailAddress, password: str, *, name: str | None) -> User:
        """A new account for a stranger.

        Raises RegistrationClosed, TooManyAttempts, InvalidInput, EmailTaken.
        """
        if self._settings.registration != "open":
            raise RegistrationClosed
        try:
            await self._throttle.registration(current_client())
        except TooManyAttempts:
            await self._audit.throttled()
            raise
        return await self.create(email, password, name=name)

    async def create(
        self,
        email: EmailAddress,
        password: str | None,
        *,
        name: str | None = None,
        is_superuser: bool = False,
    ) -> User:
        """A new account, made by an operator. Without a password nobody can log in to it.

        Raises InvalidInput for a password that may not be chosen, EmailTaken.
        """
        stored = None
        if password is not None:
            await self._passwords.check_new(password, email=email.canonical)
            stored = await self._passwords.hash(password)
        at = now()
        user = User(
            id=new_id(),
            email=email.given,
            name=name,
            is_active=True,
            is_superuser=is_superuser,
            email_confirmed_at=None,
            created_at=at,
            updated_at=at,
        )
        async with self._database.transaction() as store:
            await store.users.add(user, email=email.canonical, password_hash=stored)
            await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
        return user

    async def prove(
        self, email: EmailAddress, password: str, *, strategy: str | None = None
    ) -> Login:
        """A login, if the password belongs to the address; else InvalidCredentials.

        An unknown address, an account without password and a deactivated one cost the same work
        and give the same error. No connection is held while the password is hashed. Raises
        TooManyAttempts, before any of that, where guessing is suspected. `strategy` is what the
        login is for, and goes into the event of a refusal.
        """
        try:
            client = current_client()
            at_home = self._at_home(email.canonical, client)
            async with self._throttle.attempt(email.canonical, client, at_home=at_home):
                return await self._prove(email, password, strategy)
        except TooManyAttempts:
            await self._audit.throttled(email.canonical)
            raise

    async def _prove(self, email: EmailAddress, password: str, strategy: str | None) -> Login:
        async with self._database.read() as store:
            found = await store.users.find_credentials_by_email(email.canonical)
        user, stored = found or (None, None)
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            stored = None
        if user is None or stored is None or not user.is_active:
            await self._audit.record_alone(
                EventType.LOGIN_REFUSED, user_id=user.id if user else None, strategy=strategy
            )
            raise InvalidCredentials
        proved = await self._strengthen(user, password, stored)
        return Login(user=user, proved=proved, auth_time=now())

    def _at_home(self, account: str, client: Client) -> AtHome:
        async def asked() -> bool:
            network, since = client.network, first_id_at(now() - _HOME_FOR)
            async with self._database.read() as store:
                known = await store.events.has_login(account, network=network, since=since)
            return known and network != NO_NETWORK

        return asked

    async def change_password(
        self, identity: Identity, *, current: str, new: str, renewed: SecretHash | None
    ) -> None:
        """Change the caller's password, and end everything of theirs but the session in use.

        `renewed` is another secret for that session, so that whoever had copied the old one is out;
        with it, the session counts as freshly logged in. Raises InvalidInput for a new password
        that may not be chosen, WrongPassword, InvalidCredential if that session has ended.
        """
        account = parse_email(identity.user.email).canonical
        await self._passwords.check_new(new, field="new_password", email=account)
        try:
            client = current_client()
            at_home = self._at_home(account, client)
            async with self._throttle.confirmation(
                account, identity.session_id, client, at_home=at_home
            ):
                stored = await self._check_current(identity, current)
        except TooManyAttempts:
            await self._audit.throttled(account)
            raise
        if new == current:
            message = "must differ from the current password"
            raise InvalidInput(InputError(("body", "new_password"), "password_unchanged", message))
        replacement = await self._passwords.hash(new)
        async with self._database.transaction() as store:
            user, latest = await _locked(store, identity.user.id)
            if latest != stored:
                # Somebody changed it while we were hashing: what was proved is no longer true.
                raise WrongPassword
            session = await require_alive(store, identity)
            await store.users.set_password(user.id, replacement, at=_after(user))
            keep = () if identity.session_id is None else (identity.session_id,)
            await store.sessions.end_all(user.id, keep=keep)
            await store.refresh_families.end_of(user.id)
            if session is not None and session.kind is SessionKind.JWT:
                # Nothing can renew it any more: it ends with the access token in hand.
                await store.sessions.end_at(session.id, now() + self._settings.jwt_lifetime)
            if renewed is not None and identity.session_id is not None:
                # Later than before in any case: it tells the two secrets apart (`require_alive`).
                at = max(now(), identity.auth_time + _MOMENT)
                await store.sessions.replace_secret(identity.session_id, renewed, auth_time=at)
            await self._audit.record(
                store,
                EventType.PASSWORD_CHANGED,
                user_id=user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
            )

    async def _check_current(self, identity: Identity, current: str) -> PasswordHash | None:
        async with self._database.read() as store:
            found = await store.users.find_credentials(identity.user.id)
        stored = None if found is None else found[1]
        try:
            await self._passwords.verify(current, stored)
        except PasswordMismatch:
            await self._audit.record_alone(
                EventType.PASSWORD_CHANGE_REFUSED,
                user_id=identity.user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
            )
            raise WrongPassword from None
        return stored

    async def set_password(self, user_id: UUID, password: str) -> None:
        """Give an account a password, by an operator; everything of its sessions ends."""
        account = parse_email((await self.find(user_id)).email).canonical
        await self._passwords.check_new(password, email=account)
        replacement = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user, _ = await _locked(store, user_id)
            await store.users.set_password(user.id, replacement, at=_after(user))
            await store.sessions.end_all(user.id)
            await self._audit.record(store, EventType.PASSWORD_CHANGED, user_id=user.id)

    async def rename(
        self,
        user_id: UUID,
        name: str | None,
        *,
        unless: Callable[[User], bool],
        caller: Identity | None = None,
    ) -> User:
        """Change the name, unless `unless` says of the account, as it is now, that it has changed.

        Raises PreconditionFailed then, NotFound if the account is gone, InvalidCredential if the
        session of `caller`, who asks for it, has ended.
        """
        async with self._database.transaction() as store:
            user, _ = await _locked(store, user_id)
            if caller is not None:
                await require_alive(store, caller)
            if unless(user):
                raise PreconditionFailed
            if name != user.name:
                await store.users.set_name(user_id, name, at=_after(user))
                await self._audit.record(store, EventType.ACCOUNT_RENAMED, user_id=user_id)
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    async def set_active(self, user_id: UUID, active: bool) -> User:
        """Activate or deactivate an account. Deactivating ends everything of it.

        Raises LastSuperuser.
        """
        async with self._database.transaction() as store:
            await standing.superusers_turn(store)
            user, _ = await _locked(store, user_id)
            await standing.set_active(store, self._audit, user, active)
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    async def delete(self, user_id: UUID, *, caller: Identity | None = None) -> None:
        """Remove an account and everything that belongs to it. Its id is never used again.

        Raises InvalidCredential if the session of `caller`, who asks for it, has ended;
        LastSuperuser.
        """
        async with self._database.transaction() as store:
            await standing.superusers_turn(store)
            found = await store.users.lock(user_id)
            if caller is not None:
                await require_alive(store, caller)
            if found is not None:
                await standing.remove(store, self._audit, found[0])

    async def find(self, user_id: UUID) -> User:
        """The account with this id. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find(user_id)
        if user is None:
            raise NotFound
        return user

    async def find_by_email(self, email: EmailAddress) -> User:
        """The account with this address. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find_by_email(email.canonical)
        if user is None:
            raise NotFound
        return user

    async def page(self, *, after: UUID | None = None, limit: int = 100) -> Sequence[User]:
        """Up to `limit` accounts, the oldest first, beginning behind the id `after`."""
        async with self._database.read() as store:
            return await store.users.page(after=after, limit=limit)

    async def _strengthen(self, user: User, password: str, stored: PasswordHash) -> PasswordHash:
        # A login must not fail because its hash could not be made stronger this time.
        if not self._passwords.is_outdated(stored):
            return stored
        try:
            stronger = await self._passwords.hash(password)
            async with self._database.transaction() as store:
                await store.users.replace_hash(user.id, stored, stronger)
        except Unavailable:
            _log.warning("a password hash was not strengthened this time")
            return stored
        return stronger


async def _locked(store: Store, user_id: UUID) -> tuple[User, PasswordHash | None]:
    found = await store.users.lock(user_id)
    if found is None:
        raise NotFound
    return found
