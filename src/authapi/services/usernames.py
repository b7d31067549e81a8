"""User names of accounts: who must and may have one, their changes, and their release.

The table `usernames` decides who has a name. A released name stays reserved for its last owner: a
login, a mention or a link that still uses it must not lead to another account.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.domain.username import LoginIdentifier, Username, parse_username
from authapi.errors import InputError, InvalidInput, UsernameTaken
from authapi.services.audit import Audit
from authapi.services.jobs.pruning import prune_in_batches
from authapi.storage import Database, Store
from authapi.storage.tables.users import NewUser

RESERVATION = timedelta(days=90)
"""How long only the account that released a name can take it again."""


class Unchanged(Enum):
    """Stands for a user name that a change leaves as it is: None removes it."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


def check_username(
    username: Username | None,
    login_identifier: LoginIdentifier,
    *,
    loc: tuple[str, ...] = ("body", "username"),
) -> None:
    """Checks that an account may have this user name, or none, by the setting `login_identifier`.

    Raises InvalidInput with the location `loc`.
    """
    if username is None and login_identifier == "username":
        message = "is required, because accounts log in with it"
        raise InvalidInput(InputError(loc, "username_required", message))
    if username is not None and login_identifier == "email":
        message = "this service has no user names (AUTHAPI_LOGIN_IDENTIFIER)"
        raise InvalidInput(InputError(loc, "usernames_disabled", message))


async def set_username(
    store: Store,
    audit: Audit,
    user: User,
    username: Username | None,
    *,
    at: datetime,
    actor: Identity | None = None,
) -> None:
    """Changes the user name of the locked account `user`, and releases the previous one.

    `at` is the new time of its last change.

    Raises UsernameTaken.
    """
    if (None if username is None else username.original) == user.username:
        return
    previous = None if user.username is None else parse_username(user.username)
    if username is not None:
        await store.usernames.claim({username.canonical: user.id}, now=now())
    is_released = previous is not None and (
        username is None or username.canonical != previous.canonical
    )
    if previous is not None and is_released:
        await _release(store, previous, user.id)
    await store.users.set_username(user.id, username, at=at)
    kind = EventType.USERNAME_CHANGED
    await audit.record(store, kind, user_id=user.id, actor=actor)


async def release_username(store: Store, user: User) -> None:
    """Releases the user name of an account that this transaction deletes."""
    if user.username is not None:
        await _release(store, parse_username(user.username), user.id)


async def reserve_username(store: Store, username: Username, user_id: UUID) -> None:
    """Reserves the name for an account that is created later, if at all. Raises UsernameTaken."""
    at = now()
    await store.usernames.claim({username.canonical: user_id}, now=at, until=at + RESERVATION)


async def pass_on_reservation(store: Store, username: Username, user_id: UUID) -> None:
    """Passes a name that was reserved with `reserve_username` to the account `user_id`."""
    await _release(store, username, user_id)


class ImportedUsernames:
    """Finds the accounts of an import whose user name belongs to another account of it, or outside.

    The name of an account whose address is in use does not matter: the import skips it.
    """

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    async def find_taken(self, store: Store, batch: Sequence[NewUser]) -> Collection[UUID]:
        """Returns the ids of those accounts of `batch`. Each batch is checked once, in order."""
        repeated = {
            new.user.id
            for new in batch
            if new.user.username is not None
            and self._seen.setdefault(parse_username(new.user.username).canonical, new.email)
            != new.email
        }
        named = await _named(store, batch)
        taken = await store.usernames.find_taken({name for name, _ in named}, now=now())
        return repeated | {
            new.user.id for name, new in named if taken.get(name, new.user.id) != new.user.id
        }


async def claim_imported(store: Store, batch: Sequence[NewUser]) -> Mapping[str, UUID]:
    """Claims the names of those accounts of `batch` whose address has no account.

    Returns the names with the ids of the accounts. The transaction has locked the addresses. Raises
    UsernameTaken.
    """
    claims: dict[str, NewUser] = {}
    for name, new in await _named(store, batch):
        if claims.setdefault(name, new).email != new.email:
            raise UsernameTaken
    owners = {name: new.user.id for name, new in claims.items()}
    await store.usernames.claim(owners, now=now())
    return owners


async def find_lost_claims(store: Store, batch: Sequence[NewUser]) -> Collection[UUID]:
    """Returns the ids of the accounts for which `claim_imported` has raised UsernameTaken."""
    named = await _named(store, batch)
    taken = await store.usernames.find_taken({name for name, _ in named}, now=now())
    emails: dict[str, set[str]] = {}
    for name, new in named:
        emails.setdefault(name, set()).add(new.email)
    claimed = {new.user.id for _, new in named}
    lost = {
        new.user.id
        for name, new in named
        if len(emails[name]) > 1 or (name in taken and taken[name] not in claimed)
    }
    # None if the other account has lost the name in the meantime.
    return lost or claimed


async def drop_claims(
    store: Store, claims: Mapping[str, UUID], *, except_for: Collection[UUID]
) -> None:
    """Frees those names of `claims` whose accounts were not created."""
    unused = [name for name, user_id in claims.items() if user_id not in except_for]
    if unused:
        await store.usernames.delete(unused)


async def prune_usernames(database: Database) -> int:
    """Deletes the reservations that have expired. Raises StorageUnavailable."""
    return await prune_in_batches(
        database, "usernames", lambda store, limit: store.usernames.prune(now=now(), limit=limit)
    )


async def _named(store: Store, batch: Sequence[NewUser]) -> Sequence[tuple[str, NewUser]]:
    """Returns those accounts that have a user name and whose address has no account."""
    named = [
        (parse_username(new.user.username).canonical, new)
        for new in batch
        if new.user.username is not None
    ]
    if not named:
        return []
    existing = await store.users.find_existing_emails({new.email for _, new in named})
    return [(name, new) for name, new in named if new.email not in existing]


async def _release(store: Store, username: Username, user_id: UUID) -> None:
    until = now() + RESERVATION
    await store.usernames.release(username.canonical, user_id=user_id, until=until)
