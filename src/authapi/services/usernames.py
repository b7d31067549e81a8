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
from authapi.domain.username import Username, parse_username
from authapi.errors import InputError, InvalidInput, UsernameTaken
from authapi.services.audit import Audit
from authapi.services.jobs.pruning import prune_in_batches
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.tables.users import NewUser

RESERVATION = timedelta(days=90)
"""How long only the account that released a name can take it again."""
_LOOKUP = 200
"""Names of an import that are looked up by one query."""


class Unchanged(Enum):
    """Stands for a user name that a change leaves as it is: None removes it."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


def check_username(
    username: Username | None, settings: Settings, *, loc: tuple[str, ...] = ("body", "username")
) -> None:
    """Checks that an account may have this user name, or none, by the setting `login_identifier`.

    Raises InvalidInput with the location `loc`.
    """
    if username is None and settings.login_identifier == "username":
        message = "is required, because accounts log in with it"
        raise InvalidInput(InputError(loc, "username_required", message))
    if username is not None and settings.login_identifier == "email":
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
    """Finds the lines of an import whose user name belongs to another account, or another line.

    The name of a line whose address has an account does not matter: the line is skipped.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, str] = {}
        self._pending: list[tuple[int, str, str]] = []
        self._taken: list[int] = []

    def add(self, number: int, new: NewUser) -> None:
        """Adds a line that is valid by itself."""
        if new.user.username is None:
            return
        name = parse_username(new.user.username).canonical
        if self._seen.setdefault(name, new.email) != new.email:
            self._taken.append(number)
        else:
            self._pending.append((number, name, new.email))

    async def find_taken(self, *, is_last: bool = False) -> Sequence[int]:
        """Returns the numbers of lines whose name is taken, each once, as they become known.

        The names are looked up in batches, and `is_last` looks up the rest. Raises
        StorageUnavailable.
        """
        if len(self._pending) >= _LOOKUP or (is_last and self._pending):
            async with self._database.read() as store:
                emails = {email for _, _, email in self._pending}
                existing = await store.users.find_existing_emails(emails)
                taken = await store.usernames.find_taken(
                    {name for _, name, _ in self._pending}, now=now()
                )
            self._taken += [
                number
                for number, name, email in self._pending
                if name in taken and email not in existing
            ]
            self._pending.clear()
        found, self._taken = self._taken, []
        return found


async def claim_imported(store: Store, batch: Sequence[NewUser]) -> Mapping[str, UUID]:
    """Claims the names of those accounts of `batch` whose address has no account.

    Returns the names with the ids of the accounts. The transaction has locked the addresses. Raises
    UsernameTaken.
    """
    named = [new for new in batch if new.user.username is not None]
    if not named:
        return {}
    existing = await store.users.find_existing_emails({new.email for new in named})
    claims: dict[str, NewUser] = {}
    for new in named:
        if new.email in existing or new.user.username is None:
            continue
        name = parse_username(new.user.username).canonical
        if claims.setdefault(name, new).email != new.email:
            raise UsernameTaken
    owners = {name: new.user.id for name, new in claims.items()}
    await store.usernames.claim(owners, now=now())
    return owners


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


async def _release(store: Store, username: Username, user_id: UUID) -> None:
    until = now() + RESERVATION
    await store.usernames.release(username.canonical, user_id=user_id, until=until)
