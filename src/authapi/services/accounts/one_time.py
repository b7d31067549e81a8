"""What is sent by mail and works once: a secret that is bound to what it was made for.

Bound to a purpose, an account, an address and a password: whatever of these changes meanwhile, the
secret is worth nothing any more. Only its hash is kept. It is used up in the transaction of what it
is good for, with the account locked, so that of any number at the same moment one succeeds, and
what is refused for another reason uses nothing up.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import hash_secret, is_secret, new_secret
from authapi.errors import InvalidOneTimeSecret
from authapi.identity import User
from authapi.services.addresses import EmailAddress, parse_email
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.tables.one_time_secrets import OneTimeSecret, Purpose

LINKS = tuple(purpose for purpose in Purpose if purpose is not Purpose.UNDO)
"""What ends when an account gets another password, address or owner. An undo must outlive all that:
it is there for what a thief does to an account."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new secret, on its way into a mail."""

    text: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A secret that was used up, and the account that it is about, locked."""

    secret: OneTimeSecret
    user: User
    password: PasswordHash | None


class OneTimeSecrets:
    """Makes one-time secrets, and takes them back once."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._lifetimes: dict[Purpose, timedelta] = {
            Purpose.CONFIRM: settings.confirm_lifetime,
            Purpose.CHANGE: settings.confirm_lifetime,
            Purpose.RESET: settings.reset_lifetime,
            Purpose.UNDO: settings.undo_lifetime,
            Purpose.INVITATION: settings.invitation_lifetime,
        }

    def lifetime(self, purpose: Purpose) -> timedelta:
        """How long a secret for `purpose` works, unless it is used or ends before."""
        return self._lifetimes[purpose]

    async def make(
        self, store: Store, user: User, purpose: Purpose, *, email: EmailAddress | None = None
    ) -> Made:
        """A secret for `user`, who is locked; older ones for the same purpose end.

        `email` is the address that it is about, by default that of the account. Undos do not end
        one another: the first is what gets an account back that was moved twice.
        """
        if purpose is not Purpose.UNDO:
            await store.one_time_secrets.end_of(user.id, [purpose])
        address, at, text = email or parse_email(user.email), now(), new_secret()
        secret = OneTimeSecret(
            id=new_id(),
            user_id=user.id,
            purpose=purpose,
            email=address.canonical,
            email_given=address.given,
            password_version=await store.users.password_version(user.id) or 0,
            created_at=at,
            expires_at=at + self._lifetimes[purpose],
        )
        await store.one_time_secrets.add(secret, hash_secret(text))
        return Made(text, secret.expires_at)

    async def look(self, text: str, *purposes: Purpose) -> tuple[OneTimeSecret, User]:
        """What `text` is about, before it is taken. Raises InvalidOneTimeSecret."""
        async with self._database.read() as store:
            secret = await _find(store, text, purposes)
            user = await store.users.find(secret.user_id)
        if user is None:
            raise InvalidOneTimeSecret
        return secret, user

    async def take(self, store: Store, text: str, *purposes: Purpose) -> Taken:
        """Use `text` up, in the transaction of what it is good for. Raises InvalidOneTimeSecret.

        Most of what it is good for ends sessions of the account: they are held before the secret
        is, as everywhere else.
        """
        secret = await _find(store, text, purposes)
        locked = await store.users.lock(secret.user_id)
        if locked is None:
            raise InvalidOneTimeSecret
        user, password = locked
        if not user.is_active or not await _is_bound(store, secret, user):
            raise InvalidOneTimeSecret
        await store.sessions.lock_of(user.id)
        if not await store.one_time_secrets.consume(secret.id):
            raise InvalidOneTimeSecret  # another request was faster
        return Taken(secret, user, password)


async def _find(store: Store, text: str, purposes: tuple[Purpose, ...]) -> OneTimeSecret:
    if not is_secret(text):
        raise InvalidOneTimeSecret
    found = await store.one_time_secrets.find(hash_secret(text), purposes, now=now())
    if found is None:
        raise InvalidOneTimeSecret
    return found


async def _is_bound(store: Store, secret: OneTimeSecret, user: User) -> bool:
    if secret.purpose is Purpose.UNDO:
        return True
    if secret.password_version != await store.users.password_version(user.id):
        return False
    # The address of a change is that which the account is to have.
    return secret.purpose is Purpose.CHANGE or secret.email == parse_email(user.email).canonical
