"""What an account is to the service: active or not, a superuser or not, with which roles, or gone.

Each function is one change inside a transaction that holds the account already, with its event.
However many of them run at one moment, one superuser is left who can log in: whatever may take one
away waits for its turn first, before it holds any row, and looks for another then.
"""

from dataclasses import replace

from authapi.clock import now
from authapi.errors import LastSuperuser
from authapi.identity import EventType, Identity, User
from authapi.services.accounts.changes import after
from authapi.services.accounts.one_time import LINKS
from authapi.services.audit import Audit
from authapi.services.scopes import INTROSPECT, scopes_of_login
from authapi.settings import Settings
from authapi.storage import Store


async def superusers_turn(store: Store) -> None:
    """Wait until nobody else takes superusers away. Ask first, while no row is held."""
    await store.wait_turn("superusers")


async def require_another(store: Store, user: User) -> None:
    """Return if somebody is left where `user` is a superuser no more. Raises LastSuperuser."""
    if not user.is_superuser or not user.is_active:
        return
    if not await store.users.has_superuser_besides(user.id):
        raise LastSuperuser


async def set_active(
    store: Store, audit: Audit, user: User, active: bool, *, actor: Identity | None = None
) -> None:
    """Activate or deactivate. Deactivating ends everything of the account, sent links as well.

    Raises LastSuperuser.
    """
    if not active:
        await require_another(store, user)
        await store.sessions.end_all(user.id)
        await store.one_time_secrets.end_of(user.id, LINKS)
    if user.is_active != active:
        await store.users.set_active(user.id, active, at=after(user))
        kind = EventType.ACCOUNT_ACTIVATED if active else EventType.ACCOUNT_DEACTIVATED
        await audit.record(store, kind, user_id=user.id, actor=actor)


async def set_superuser(
    store: Store,
    audit: Audit,
    user: User,
    superuser: bool,
    *,
    settings: Settings,
    actor: Identity | None = None,
) -> None:
    """Make a superuser, or make one a user like others. Raises LastSuperuser."""
    if user.is_superuser == superuser:
        return
    if not superuser:
        await require_another(store, user)
        await _end_inspectors(store, audit, user, settings, actor)
    await store.users.set_superuser(user.id, superuser, at=after(user))
    kind = EventType.SUPERUSER_GRANTED if superuser else EventType.SUPERUSER_REVOKED
    await audit.record(store, kind, user_id=user.id, actor=actor)


async def _end_inspectors(
    store: Store, audit: Audit, user: User, settings: Settings, actor: Identity | None
) -> None:
    # Where there are no roles, what a credential was given stands (`services/scopes`), and this
    # scope came with the rank.
    left = scopes_of_login(replace(user, is_superuser=False), settings)
    if settings.roles or INTROSPECT in left:
        return
    ended = 0
    for personal in (True, False):
        for session in await store.sessions.list_of(user.id, personal=personal, now=now()):
            if INTROSPECT in (session.scopes or ()):
                ended += await store.sessions.end(session.id)
    if ended:
        kind = EventType.SESSIONS_ENDED
        await audit.record(store, kind, user_id=user.id, actor=actor, count=ended)


async def set_roles(
    store: Store,
    audit: Audit,
    user: User,
    roles: frozenset[str],
    *,
    actor: Identity | None = None,
) -> None:
    """Give these roles, and no others."""
    if roles != user.roles:
        await store.users.set_roles(user.id, roles, at=after(user))
        kind = EventType.ROLES_CHANGED
        await audit.record(store, kind, user_id=user.id, actor=actor, roles=sorted(roles))


async def remove(
    store: Store, audit: Audit, user: User, settings: Settings, *, actor: Identity | None = None
) -> None:
    """Remove the account with everything of its own. Raises LastSuperuser.

    Its events go as well, or lose what tells of a person, as the settings say; that it was removed
    stays.
    """
    await require_another(store, user)
    # Before the foreign keys would, which take the rows in an order of their own.
    await store.sessions.end_all(user.id)
    await store.one_time_secrets.end_of(user.id)
    await store.users.delete(user.id)
    if settings.deleted_events == "anonymise":
        await store.events.anonymise(user.id)
    else:
        await store.events.erase(user.id)
    await audit.record(store, EventType.ACCOUNT_DELETED, user_id=user.id, actor=actor)
