"""Lookup of accounts, and changes of their profile by their owners."""

from collections.abc import Callable, Mapping
from uuid import UUID

from authapi.domain.email_address import EmailAddress
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.domain.username import Username
from authapi.errors import NotFound, PreconditionFailed
from authapi.services.accounts.users import check_locale, find_user, lock_user, next_update_time
from authapi.services.audit import Audit
from authapi.services.revalidation import require_live_session
from authapi.services.usernames import (
    UNCHANGED,
    Unchanged,
    check_username,
    set_username,
)
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict


class Profiles:
    """Finds accounts, and changes what their owners may change.

    Each call raises StorageUnavailable if the database does not answer.
    """

    def __init__(self, database: Database, audit: Audit, settings: Settings) -> None:
        self._database = database
        self._audit = audit
        self._settings = settings

    async def find(self, user_id: UUID) -> User:
        """Returns the account with this id. Raises NotFound."""
        async with self._database.read() as store:
            return await find_user(store, user_id)

    async def find_by_username(self, username: Username) -> User:
        """Returns the account with this user name. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find_by_username(username.canonical)
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

    @retry_on_conflict
    async def edit(
        self,
        user_id: UUID,
        changes: Mapping[str, str | None],
        *,
        username: Username | Unchanged | None = UNCHANGED,
        is_stale: Callable[[User], bool],
        caller: Identity | None = None,
    ) -> User:
        """Changes the profile of an account; returns the account.

        `changes` maps fields of `User` that its owner changes, such as `name`, to values.
        `username` is the new user name, or None to remove it.
        `is_stale` gets the current account and returns whether it differs from the version that the
        client has seen. `caller` is the identity of the request, if it has one.

        Raises PreconditionFailed if `is_stale` returns True, NotFound, InvalidInput if the locale
        is not one of the settings or `login_identifier` does not allow the user name,
        UsernameTaken, InvalidCredential if the session of `caller` has ended.
        """
        check_locale(changes.get("locale"), self._settings)
        if username is not UNCHANGED:
            check_username(username, self._settings.login_identifier)
        async with self._database.transaction() as store:
            user, _ = await lock_user(store, user_id)
            if caller is not None:
                await require_live_session(store, caller)
            if is_stale(user):
                raise PreconditionFailed
            if username is not UNCHANGED:
                await set_username(store, self._audit, user, username, at=next_update_time(user))
                user = await find_user(store, user_id)
            new = {key: value for key, value in changes.items() if value != getattr(user, key)}
            if new:
                await store.users.set_profile(user_id, new, at=next_update_time(user))
            if "name" in new:
                await self._audit.record(store, EventType.ACCOUNT_RENAMED, user_id=user_id)
            if "locale" in new:
                await self._audit.record(store, EventType.LOCALE_CHANGED, user_id=user_id)
            return await find_user(store, user_id)
