"""Deletion of accounts, by their owners and by administrators."""

from authapi.domain.client import Client, current_client, on_behalf_of
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.services.accounts.users import check_not_last_superuser, lock_superusers
from authapi.services.audit import Audit
from authapi.services.factors.removal import remove_all_factors
from authapi.services.hooks import Hooks
from authapi.services.revalidation import require_live_session
from authapi.services.usernames import release_username
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


class Deletion:
    """Deletes accounts for their owners."""

    def __init__(self, database: Database, audit: Audit, hooks: Hooks, settings: Settings) -> None:
        self._database = database
        self._audit = audit
        self._hooks = hooks
        self._settings = settings

    @retry_on_conflict
    async def delete_own(self, caller: Identity) -> None:
        """Deletes the account of `caller`, if it still exists. Ids are never reused.

        The event of the deletion has no address and user agent of the client. Raises
        InvalidCredential if the session of `caller` has ended, LastSuperuser, AccountInUse, the
        errors of the hooks, and StorageUnavailable if the database does not answer.
        """
        client = Client(request_id=current_client().request_id)
        async with self._database.transaction() as store:
            await lock_superusers(store)
            row = await store.users.lock(caller.user.id)
            await require_live_session(store, caller)
            if row is None:
                return
            with on_behalf_of(lambda: client):
                await delete_account(store, self._audit, self._hooks, row[0], self._settings)


async def delete_account(
    store: Store,
    audit: Audit,
    hooks: Hooks,
    user: User,
    settings: Settings,
    *,
    actor: Identity | None = None,
) -> None:
    """Deletes an account with all that belongs to it.

    The hooks of the application run before. The transaction raises AccountInUse, at the latest
    when it is committed, if rows of the application refer to the account.

    The events of the account are erased or anonymised, as the setting `deleted_events` says; the
    event of the deletion is kept. Raises LastSuperuser, and the errors of the hooks.
    """
    await check_not_last_superuser(store, user)
    if hooks.checks_deletions:
        await hooks.run_before_delete(user, store.transaction)
    # Explicitly, because the foreign keys would lock and delete the rows in another order.
    await store.sessions.end_all(user.id)
    if user.username is not None:
        await release_username(store, user.username, user.id)
    await store.email_tokens.delete_for_user(user.id)
    if user.mfa:  # in the order of locks: the foreign keys would delete them last
        await remove_all_factors(store, user)
    await store.users.delete(user.id)
    if settings.deleted_events == "anonymise":
        await store.events.anonymise(user.id)
    else:
        await store.events.erase(user.id)
    await audit.record(store, EventType.ACCOUNT_DELETED, user_id=user.id, actor=actor)
