"""Removal of second factors that another person than the owner of the mailbox may have added."""

from datetime import datetime

from authapi.clock import now_after
from authapi.domain.user import User
from authapi.storage import Store


async def remove_all_factors(store: Store, user: User) -> bool:
    """Removes all second factors and recovery codes of a locked user, and logins under way.

    Returns whether the user had a second factor.
    """
    await store.login_tickets.end_all(user.id)
    had_factor = await store.totp_factors.remove_all(user.id)
    await store.recovery_codes.remove_all(user.id)
    if user.mfa:
        await store.users.set_mfa(user.id, None, at=now_after(user.updated_at))
    return had_factor


async def remove_factors_since(store: Store, user: User, since: datetime) -> bool:
    """Removes what a locked user has added to the second factors at `since` or later.

    Recovery codes that were made since then end, and all of them end with the last factor. Returns
    whether a factor was removed.
    """
    await store.login_tickets.end_all(user.id)
    was_removed = await store.totp_factors.remove_since(user.id, since)
    if was_removed:
        await store.recovery_codes.remove_all(user.id)
        await store.users.set_mfa(user.id, None, at=now_after(user.updated_at))
    else:
        await store.recovery_codes.remove_since(user.id, since)
    return was_removed
