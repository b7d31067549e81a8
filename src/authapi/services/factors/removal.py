"""Removal of second factors that another person than the owner of the mailbox may have added."""

from datetime import datetime

from authapi.clock import now_after
from authapi.domain.factors.policy import must_have_factor
from authapi.domain.factors.values import FactorMethod
from authapi.domain.user import User
from authapi.errors import LastFactor
from authapi.services.mail import Mail, MailKind
from authapi.settings import Settings
from authapi.storage import Store


async def remove_all_factors(store: Store, user: User) -> bool:
    """Removes all second factors and recovery codes of a locked user, and logins under way.

    Returns whether the user had a second factor.
    """
    await store.login_tickets.end_all(user.id)
    had_app = await store.totp_factors.remove_all(user.id)
    had_passkey = await store.passkeys.remove_all(user.id)
    await store.recovery_codes.remove_all(user.id)
    if user.mfa:
        await store.users.set_mfa(user.id, None, at=now_after(user.updated_at))
    return had_app or had_passkey


async def remove_factors_since(store: Store, user: User, since: datetime) -> bool:
    """Removes what a locked user has added to the second factors at `since` or later.

    Recovery codes that were made since then end, and all of them end with the last factor. Returns
    whether a factor was removed.
    """
    await store.login_tickets.end_all(user.id)
    app = await store.totp_factors.remove_since(user.id, since)
    passkeys = await store.passkeys.remove_since(user.id, since)
    await store.recovery_codes.remove_since(user.id, since)
    if app or passkeys:
        await keep_or_end_mfa(store, user, None)
    return app or passkeys


async def keep_or_end_mfa(store: Store, user: User, settings: Settings | None) -> bool:
    """Records that a factor of a locked user was removed. With the last one, recovery codes end.

    A login that began before cannot complete after it. Returns whether a factor is left. With the
    `settings`, raises LastFactor if none is left and the account must have one.
    """
    has_factor = (
        await store.totp_factors.find(user.id) is not None
        or await store.passkeys.count(user.id) > 0
    )
    if not has_factor:
        if settings is not None and must_have_factor(user, settings):
            raise LastFactor
        await store.recovery_codes.remove_all(user.id)
    since = user.mfa_since if has_factor else None
    await store.users.set_mfa(user.id, since, at=now_after(user.updated_at))
    return has_factor


async def tell_of_removal(
    mail: Mail, store: Store, user: User, method: FactorMethod, *, has_factor: bool
) -> None:
    """Queues the mail about a removed factor: its kind, and whether another one is left."""
    kind = MailKind.FACTOR_REMOVED
    if has_factor:
        await mail.queue(store, kind, user, method=method.value, still="yes")
    else:
        await mail.queue(store, kind, user, method=method.value)
