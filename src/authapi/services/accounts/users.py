"""Rows of `users`, as several account services create, lock and change them.

At least one active superuser always remains. A transaction that may remove one first takes an
advisory lock, before it locks any row, and then looks for another superuser.
"""

from datetime import datetime, timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.domain.email_address import EmailAddress
from authapi.domain.user import User
from authapi.domain.username import Username, parse_username
from authapi.errors import EmailTaken, InputError, InvalidInput, LastSuperuser, NotFound
from authapi.settings import Settings
from authapi.storage import Store

TIME_RESOLUTION = timedelta(microseconds=1)
"""The smallest difference between two times that the database can store."""


async def find_user(store: Store, user_id: UUID) -> User:
    """Returns the account with this id. Raises NotFound."""
    user = await store.users.find(user_id)
    if user is None:
        raise NotFound
    return user


async def lock_user(store: Store, user_id: UUID) -> tuple[User, PasswordHash | None]:
    """Locks the user until the commit; returns it with its password hash. Raises NotFound."""
    row = await store.users.lock(user_id)
    if row is None:
        raise NotFound
    return row.user, row.password_hash


async def lock_superusers(store: Store) -> None:
    """Waits for other transactions that may remove a superuser. Call it before locking any row."""
    await store.advisory_lock("superusers")


async def check_not_last_superuser(store: Store, user: User) -> None:
    """Checks that another active superuser exists if `user` is one. Raises LastSuperuser."""
    if not user.is_superuser or not user.is_active:
        return
    if not await store.users.has_other_superuser(user.id):
        raise LastSuperuser


def new_user(
    email: EmailAddress,
    *,
    name: str | None,
    username: Username | None = None,
    locale: str | None = None,
    is_superuser: bool = False,
) -> User:
    """Returns a new active user with an unconfirmed address, which `add_user` inserts."""
    at = now()
    return User(
        id=new_id(),
        email=email.original,
        name=name,
        is_active=True,
        is_superuser=is_superuser,
        email_confirmed_at=None,
        created_at=at,
        updated_at=at,
        locale=locale,
        username=None if username is None else username.original,
    )


async def add_user(
    store: Store, user: User, email: EmailAddress, password: PasswordHash | None
) -> None:
    """Inserts `user`. The transaction has locked the address with `lock_addresses`.

    Raises EmailTaken if an account has the address, or can still revert to it, and UsernameTaken if
    the user name is not free.
    """
    if user.username is not None:
        name = parse_username(user.username).canonical
        await store.usernames.claim({name: user.id}, now=now())
    await store.users.add(user, email=email.canonical, password_hash=password)
    await check_not_reserved(store, user, email.canonical)


async def check_not_reserved(store: Store, user: User, email: str) -> None:
    """Checks that no other account can revert to the canonical `email`. Raises EmailTaken.

    `user` already has the address in this transaction. A check before that could miss a
    reservation that another transaction is about to commit.
    """
    if await store.email_tokens.is_reserved(email, except_user=user.id, now=now()):
        raise EmailTaken


def check_locale(locale: str | None, settings: Settings) -> None:
    """Checks that `locale` is None or one of the settings. Raises InvalidInput."""
    if locale is not None and locale not in settings.locales:
        message = f"one of {', '.join(settings.locales)}"
        raise InvalidInput(InputError(("body", "locale"), "unknown_locale", message))


def next_update_time(user: User) -> datetime:
    """Returns the current time, or just after the last change of `user` if the clock was set back.

    The ETag of an account is derived from this time, and must never repeat.
    """
    return max(now(), user.updated_at + TIME_RESOLUTION)
