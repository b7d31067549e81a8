"""Accounts: registered, proved by password, changed and removed."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
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
    Unavailable,
    WrongPassword,
)
from authapi.identity import Identity, User
from authapi.services.addresses import EmailAddress
from authapi.services.passwords import Passwords
from authapi.services.sessions import Login
from authapi.settings import Settings
from authapi.storage import Database, Store

_log = logging.getLogger(__name__)


class Accounts:
    """Accounts, and the proof that a caller owns one."""

    def __init__(self, database: Database, passwords: Passwords, settings: Settings) -> None:
        self._database = database
        self._passwords = passwords
        self._settings = settings

    async def register(self, email: EmailAddress, password: str, *, name: str | None) -> User:
        """A new account for a stranger. Raises RegistrationClosed, InvalidInput, EmailTaken."""
        if self._settings.registration == "closed":
            raise RegistrationClosed
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
            self._passwords.check_new(password)
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
        return user

    async def prove(self, email: EmailAddress, password: str) -> Login:
        """A login, if the password belongs to the address; else InvalidCredentials.

        An unknown address, an account without password and a deactivated one cost the same work
        and give the same error. No connection is held while the password is hashed.
        """
        async with self._database.read() as store:
            found = await store.users.find_credentials_by_email(email.canonical)
        user, stored = found or (None, None)
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            raise InvalidCredentials from None
        if user is None or stored is None or not user.is_active:
            raise InvalidCredentials
        proved = await self._strengthen(user, password, stored)
        return Login(user=user, proved=proved, auth_time=now())

    async def change_password(
        self, identity: Identity, *, current: str, new: str, renewed: SecretHash | None
    ) -> None:
        """Change the caller's password, and end everything of theirs but the session in use.

        `renewed` is another secret for that session, so that whoever had copied the old one is out.
        Raises InvalidInput for a new password that may not be chosen, WrongPassword.
        """
        self._passwords.check_new(new, field="new_password")
        async with self._database.read() as store:
            found = await store.users.find_credentials(identity.user.id)
        stored = None if found is None else found[1]
        try:
            await self._passwords.verify(current, stored)
        except PasswordMismatch:
            raise WrongPassword from None
        if new == current:
            message = "must differ from the current password"
            raise InvalidInput(InputError(("body", "new_password"), "password_unchanged", message))
        replacement = await self._passwords.hash(new)
        async with self._database.transaction() as store:
            user, latest = await _locked(store, identity.user.id)
            if latest != stored:
                # Somebody changed it while we were hashing: what was proved is no longer true.
                raise WrongPassword
            await store.users.set_password(user.id, replacement, at=_after(user))
            keep = () if identity.session_id is None else (identity.session_id,)
            await store.sessions.end_all(user.id, keep=keep)
            if renewed is not None and identity.session_id is not None:
                await store.sessions.replace_secret(identity.session_id, renewed)

    async def set_password(self, user_id: UUID, password: str) -> None:
        """Give an account a password, by an operator; everything of its sessions ends."""
        self._passwords.check_new(password)
        replacement = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user, _ = await _locked(store, user_id)
            await store.users.set_password(user.id, replacement, at=_after(user))
            await store.sessions.end_all(user.id)

    async def rename(
        self, user_id: UUID, name: str | None, *, unless: Callable[[User], bool]
    ) -> User:
        """Change the name, unless `unless` says of the account, as it is now, that it has changed.

        Raises PreconditionFailed then, NotFound if the account is gone.
        """
        async with self._database.transaction() as store:
            user, _ = await _locked(store, user_id)
            if unless(user):
                raise PreconditionFailed
            if name != user.name:
                await store.users.set_name(user_id, name, at=_after(user))
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    async def set_active(self, user_id: UUID, active: bool) -> User:
        """Activate or deactivate an account. Deactivating ends everything of it."""
        async with self._database.transaction() as store:
            user, _ = await _locked(store, user_id)
            if user.is_active != active:
                await store.users.set_active(user_id, active, at=_after(user))
            if not active:
                await store.sessions.end_all(user_id)
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    async def delete(self, user_id: UUID) -> None:
        """Remove an account and everything that belongs to it. Its id is never used again."""
        async with self._database.transaction() as store:
            await store.users.delete(user_id)

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
        if not await self._passwords.is_outdated(stored):
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


def _after(user: User) -> datetime:
    # Strictly later, whatever the clock did: an ETag made from it must never come back.
    return max(now(), user.updated_at + timedelta(microseconds=1))
