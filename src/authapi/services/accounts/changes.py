"""Changes that several ways through an account have in common, on the locked account."""

from datetime import datetime, timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.errors import EmailTaken, InputError, InvalidInput, NotFound
from authapi.identity import User
from authapi.services.accounts.one_time import LINKS
from authapi.services.addresses import EmailAddress
from authapi.settings import Settings
from authapi.storage import Store

MOMENT = timedelta(microseconds=1)
"""The least that two times in the database can differ by."""


async def locked(store: Store, user_id: UUID) -> tuple[User, PasswordHash | None]:
    """The account and its password hash, held until the commit. Raises NotFound."""
    found = await store.users.lock(user_id)
    if found is None:
        raise NotFound
    return found


def new_user(
    email: EmailAddress, *, name: str | None, locale: str | None = None, is_superuser: bool = False
) -> User:
    """An account that there is not yet, with an address that is not confirmed."""
    at = now()
    return User(
        id=new_id(),
        email=email.given,
        name=name,
        is_active=True,
        is_superuser=is_superuser,
        email_confirmed_at=None,
        created_at=at,
        updated_at=at,
        locale=locale,
    )


async def add_user(
    store: Store, user: User, email: EmailAddress, password: PasswordHash | None
) -> None:
    """Insert `user`, whose address the transaction waited for (`wait_for_addresses`).

    Raises EmailTaken, also where an account can still be moved back there.
    """
    await store.users.add(user, email=email.canonical, password_hash=password)
    await require_not_reserved(store, user, email.canonical)


async def require_not_reserved(store: Store, user: User, email: str) -> None:
    """Return if `user`, who was just given the canonical `email`, may keep it. Raises EmailTaken.

    Before, an account that was about to leave the address might not have reserved it yet.
    """
    if await store.one_time_secrets.reserves(email, unless_for=user.id, now=now()):
        raise EmailTaken


def check_locale(locale: str | None, settings: Settings) -> None:
    """Return if accounts may choose this language, or none. Raises InvalidInput."""
    if locale is not None and locale not in settings.locales:
        message = f"one of {', '.join(settings.locales)}"
        raise InvalidInput(InputError(("body", "locale"), "unknown_locale", message))


def after(user: User) -> datetime:
    """Now, and strictly later than the last change, whatever the clock did.

    An ETag made from it must never come back.
    """
    return max(now(), user.updated_at + MOMENT)


async def take_over(
    store: Store, user: User, password: PasswordHash | None, *, keep_name: bool = False
) -> User:
    """Give the account to whoever reads mail at its address: nothing that others hold works on.

    It gets `password`, or none; every session, token and link ends. A name that was there before
    the address was confirmed may be a stranger's, and goes unless `keep_name`. As mail was read
    at the address, it is confirmed now. Gives the account as it is then.
    """
    at = after(user)
    await store.users.set_password(user.id, password, at=at)
    if user.email_confirmed_at is None:
        await store.users.confirm_email(user.id, at=at)
        if not keep_name:
            await store.users.set_name(user.id, None, at=at)
    await store.sessions.end_all(user.id)  # and with them the families that refresh them
    await store.one_time_secrets.end_of(user.id, LINKS)
    changed = await store.users.find(user.id)
    if changed is None:
        raise NotFound
    return changed
