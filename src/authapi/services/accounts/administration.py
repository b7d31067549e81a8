"""Administration: what superusers, and operators at the command line, do with accounts of others.

A superuser acts on accounts that are not their own, and is asked for their rank once more inside
the transaction: two who take it from one another at the same moment cannot both succeed. Whatever
is done is written down with the name of who did it. Operators have no account, and may do
everything but take away the last superuser.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict
from uuid import UUID

from authapi.errors import (
    InputError,
    InvalidCredential,
    InvalidInput,
    MailDisabled,
    NotFound,
    NotInvited,
    OwnAccount,
    PreconditionFailed,
    SuperuserRequired,
)
from authapi.identity import EventType, Identity, User
from authapi.services.accounts import standing
from authapi.services.accounts.changes import add_user, after, locked, new_user
from authapi.services.accounts.cursors import cursor_behind, position_of
from authapi.services.accounts.invitations import Invitations
from authapi.services.addresses import EmailAddress
from authapi.services.alive import require_alive
from authapi.services.audit import Audit
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.conflicts import retried
from authapi.storage.tables.users import UserFilter, UserOrder


class Changes(TypedDict, total=False):
    """What to change of an account; what is left out stays."""

    name: str | None
    is_active: bool
    is_superuser: bool
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class UserPage:
    """Some accounts, and where to go on: None on the last page."""

    items: Sequence[User]
    next: str | None


def _never(_: User) -> bool:
    return False


class Administration:
    """Accounts, as those who look after them see them. `by` is None for an operator."""

    def __init__(
        self, database: Database, audit: Audit, invitations: Invitations, settings: Settings
    ) -> None:
        self._database = database
        self._audit = audit
        self._invitations = invitations
        self._settings = settings

    async def page(
        self,
        wanted: UserFilter,
        *,
        order: UserOrder = UserOrder.OLDEST,
        after: str | None = None,
        limit: int = 50,
    ) -> UserPage:
        """Up to `limit` accounts, beginning behind the cursor `after`: one statement.

        Raises InvalidInput for a cursor that is none.
        """
        position = None if after is None else position_of(after, order)
        if wanted.role in self._settings.default_roles:
            wanted = replace(wanted, role=None)  # everybody has it
        async with self._database.read() as store:
            found = await store.users.search(wanted, order=order, after=position, limit=limit)
        is_full = len(found) == limit
        return UserPage(found, cursor_behind(found[-1], order) if is_full else None)

    @retried
    async def invite(
        self,
        email: EmailAddress,
        *,
        name: str | None = None,
        roles: Collection[str] = (),
        by: Identity | None = None,
    ) -> User:
        """A new account without a password, and a mail to its owner-to-be, who will choose one.

        Raises MailDisabled where none is sent, InvalidInput for a role that there is not,
        EmailTaken.
        """
        if not self._settings.sends_mail:
            raise MailDisabled
        user = replace(new_user(email, name=name), roles=self._existing(roles))
        async with self._database.transaction() as store:
            await store.users.wait_for_addresses(email.canonical)
            await self._hold(store, by=by)
            await add_user(store, user, email, None)
            await self._invitations.invite(store, user)
            kind = EventType.ACCOUNT_INVITED
            await self._audit.record(store, kind, user_id=user.id, actor=by)
        return user

    @retried
    async def invite_again(self, user_id: UUID, *, by: Identity | None = None) -> User:
        """Send another invitation, which ends the one before, to who has not accepted it.

        Whoever else has no password and no confirmed address, after an import for instance, can be
        invited so too. Raises MailDisabled where no mail is sent, NotInvited, else as `change`.
        """
        if not self._settings.sends_mail:
            raise MailDisabled
        async with self._database.transaction() as store:
            await self._held(store, user_id, by=by, also_own=False)
            user, password = await locked(store, user_id)
            if password is not None or user.email_confirmed_at is not None or not user.is_active:
                raise NotInvited
            await self._invitations.invite(store, user)
            kind = EventType.ACCOUNT_INVITED
            await self._audit.record(store, kind, user_id=user_id, actor=by)
        return user

    @retried
    async def change(
        self,
        user_id: UUID,
        changes: Changes,
        *,
        by: Identity | None = None,
        unless: Callable[[User], bool] = _never,
    ) -> User:
        """All of `changes` at once, unless `unless` says that the account has changed meanwhile.

        Deactivating ends everything of it, on every process. Raises PreconditionFailed then,
        InvalidInput for a role that there is not, LastSuperuser, OwnAccount for more than one's own
        name, NotFound, and, of `by`, SuperuserRequired and InvalidCredential.
        """
        roles = self._existing(changes["roles"]) if "roles" in changes else None
        async with self._database.transaction() as store:
            await standing.superusers_turn(store)
            user = await self._held(store, user_id, by=by, also_own=changes.keys() <= {"name"})
            if unless(user):
                raise PreconditionFailed
            if "name" in changes and changes["name"] != user.name:
                await store.users.set_name(user_id, changes["name"], at=after(user))
                kind = EventType.ACCOUNT_RENAMED
                await self._audit.record(store, kind, user_id=user_id, actor=by)
            if roles is not None:
                await standing.set_roles(store, self._audit, user, roles, actor=by)
            if "is_superuser" in changes:
                await standing.set_superuser(
                    store,
                    self._audit,
                    user,
                    changes["is_superuser"],
                    settings=self._settings,
                    actor=by,
                )
                user = replace(user, is_superuser=changes["is_superuser"])
            if "is_active" in changes:
                active = changes["is_active"]
                await standing.set_active(store, self._audit, user, active, actor=by)
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    @retried
    async def end_sessions(self, user_id: UUID, *, by: Identity | None = None) -> int:
        """End every login and token of an account; how many they were. Raises as `change`."""
        async with self._database.transaction() as store:
            await self._held(store, user_id, by=by, also_own=True)
            count = await store.sessions.end_all(user_id)
            if count:
                kind = EventType.SESSIONS_ENDED
                await self._audit.record(store, kind, user_id=user_id, actor=by, count=count)
        return count

    @retried
    async def delete(self, user_id: UUID, *, by: Identity | None = None) -> None:
        """Remove an account and everything that belongs to it. Raises as `change`."""
        async with self._database.transaction() as store:
            await standing.superusers_turn(store)
            user = await self._held(store, user_id, by=by, also_own=False)
            await standing.remove(store, self._audit, user, self._settings, actor=by)

    async def _held(
        self, store: Store, user_id: UUID, *, by: Identity | None, also_own: bool
    ) -> User:
        """The account, held until the commit, if `by` may act on it."""
        user = (await self._hold(store, user_id, by=by)).get(user_id)
        if user is None:
            raise NotFound
        if by is not None and by.user.id == user_id and not also_own:
            raise OwnAccount
        return user

    async def _hold(self, store: Store, *user_ids: UUID, by: Identity | None) -> "dict[UUID, User]":
        """Hold these accounts and that of `by`, who is a superuser still, in this very moment."""
        if by is None:
            return dict(await store.users.lock_all(user_ids))
        held = dict(await store.users.lock_all({*user_ids, by.user.id}))
        actor = held.get(by.user.id)
        if actor is None or not actor.is_active:
            raise InvalidCredential
        await require_alive(store, by)
        if not actor.is_superuser:
            raise SuperuserRequired
        return held

    def _existing(self, roles: Collection[str]) -> frozenset[str]:
        if not self._settings.roles.keys() >= set(roles):
            message = "names a role that AUTHAPI_ROLES does not have"
            raise InvalidInput(InputError(("body", "roles"), "role_unknown", message))
        return frozenset(roles)
