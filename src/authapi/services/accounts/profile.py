"""Lookup of accounts, and changes of them by their owners."""

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
from authapi.services.own_columns import OwnColumns, ProfileInput
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

    Accounts have their own columns, if the application declares any.

    Each call raises StorageUnavailable if the database does not answer.
    """

    def __init__(
        self, database: Database, audit: Audit, own_columns: OwnColumns, settings: Settings
    ) -> None:
        self._database = database
        self._audit = audit
        self._own_columns = own_columns
        self._settings = settings

    async def find(self, user_id: UUID) -> User:
        """Returns the account with this id. Raises NotFound."""
        async with self._database.read() as store:
            return await self._own_columns.load(store, await find_user(store, user_id))

    async def find_by_username(self, username: Username) -> User:
        """Returns the account with this user name. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find_by_username(username.canonical)
            if user is None:
                raise NotFound
            return await self._own_columns.load(store, user)

    async def find_by_email(self, email: EmailAddress) -> User:
        """Returns the account with this address. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find_by_email(email.canonical)
            if user is None:
                raise NotFound
            return await self._own_columns.load(store, user)

    @retry_on_conflict
    async def edit(
        self,
        user_id: UUID,
        changes: Mapping[str, str | None],
        *,
        username: Username | Unchanged | None = UNCHANGED,
        is_stale: Callable[[User], bool],
        caller: Identity | None = None,
        profile: ProfileInput | None = None,
    ) -> User:
        """Changes an account for its owner; returns the account.

        `changes` maps fields of `User` that its owner changes, such as `name`, to values.
        `username` is the new user name, or None to remove it.
        `is_stale` gets the current account and returns whether it differs from the version that the
        client has seen. `caller` is the identity of the request, if it has one. `profile` are
        changes of own columns.

        Raises PreconditionFailed if `is_stale` returns True, NotFound, InvalidInput if the locale
        is not one of the settings, `login_identifier` does not allow the user name, or a value of
        `profile` cannot be stored, ProfileTaken, UsernameTaken, InvalidCredential if the session of
        `caller` has ended.
        """
        check_locale(changes.get("locale"), self._settings)
        if username is not UNCHANGED:
            check_username(username, self._settings.login_identifier)
        async with self._database.transaction() as store:
            user, _ = await lock_user(store, user_id)
            if caller is not None:
                await require_live_session(store, caller)
            if is_stale(await self._own_columns.load(store, user, lock=True)):
                raise PreconditionFailed
            if username is not UNCHANGED:
                await set_username(store, self._audit, user, username, at=next_update_time(user))
                user = await find_user(store, user_id)
            has_new_profile = await self._own_columns.change(store, user, profile)
            new = {key: value for key, value in changes.items() if value != getattr(user, key)}
            if new or has_new_profile:
                await store.users.set_profile(user_id, new, at=next_update_time(user))
            if "name" in new:
                await self._audit.record(store, EventType.ACCOUNT_RENAMED, user_id=user_id)
            if "locale" in new:
                await self._audit.record(store, EventType.LOCALE_CHANGED, user_id=user_id)
            if has_new_profile:
                await self._audit.record(store, EventType.PROFILE_CHANGED, user_id=user_id)
            return await self._own_columns.load(store, await find_user(store, user_id))
