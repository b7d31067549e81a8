"""Deletion of accounts, by their owners and by administrators."""

from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.services.accounts.users import check_not_last_superuser
from authapi.services.audit import Audit
from authapi.settings import Settings
from authapi.storage import Store


async def delete_account(
    store: Store, audit: Audit, user: User, settings: Settings, *, actor: Identity | None = None
) -> None:
    """Deletes an account with all that belongs to it. Raises LastSuperuser.

    The transaction raises AccountInUse, at the latest when it is committed, if rows of the
    application refer to the account.

    Its events are erased or anonymised, as the setting `deleted_events` says; the event of the
    deletion is kept.
    """
    await check_not_last_superuser(store, user)
    # Explicitly, because the foreign keys would lock and delete the rows in another order.
    await store.sessions.end_all(user.id)
    await store.email_tokens.delete_for_user(user.id)
    await store.users.delete(user.id)
    if settings.deleted_events == "anonymise":
        await store.events.anonymise(user.id)
    else:
        await store.events.erase(user.id)
    await audit.record(store, EventType.ACCOUNT_DELETED, user_id=user.id, actor=actor)
