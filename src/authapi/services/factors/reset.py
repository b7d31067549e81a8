"""Reset of second factors by an administrator, for an owner who has lost all of them."""

from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.services.audit import Audit
from authapi.services.factors.removal import remove_all_factors
from authapi.services.mail import Mail, MailKind
from authapi.storage import Store


async def reset_factors(
    store: Store, audit: Audit, mail: Mail, user: User, *, actor: Identity | None
) -> bool:
    """Removes all second factors of a locked user; returns whether there was one.

    All logins of the account end, because the factor that they proved may be in other hands.
    Personal access tokens stay, as in other changes of factors. `actor` is the superuser who asks
    for it; None stands for an operator at the command line.
    """
    # Also the rows of an account whose `mfa_since` is out of step with them.
    had_factor = user.mfa or await store.totp_factors.find(user.id) is not None
    if had_factor:
        await store.sessions.end_all(user.id, logins_only=True)
    await remove_all_factors(store, user)
    if had_factor:
        await audit.record(store, EventType.FACTORS_RESET, user_id=user.id, actor=actor)
        await mail.queue(store, MailKind.FACTORS_RESET, user)
    return had_factor
