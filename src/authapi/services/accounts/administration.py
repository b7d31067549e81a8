"""Administration of accounts by superusers, and by operators at the command line.

The functions at the end change the status of one account: active, superuser, roles. Each runs in a
transaction that has locked the account, and records its event.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict
from uuid import UUID

from authapi.clock import now
from authapi.domain.email_address import EmailAddress
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.scopes import INTROSPECT, login_scopes
from authapi.domain.user import User, UserFilter, UserOrder
from authapi.domain.username import Username
from authapi.errors import (
    AccountDeactivated,
    InputError,
    InvalidInput,
    MailDisabled,
    NotInvited,
    PreconditionFailed,
)
from authapi.services.accounts.email_tokens import REVOKED_ON_ACCOUNT_CHANGE, EmailTokens
from authapi.services.accounts.users import (
    add_user,
    check_not_last_superuser,
    find_user,
    lock_superusers,
    lock_user,
    new_user,
    next_update_time,
)
from authapi.services.audit import Audit
from authapi.services.cursors import decode_cursor, encode_cursor
from authapi.services.factors.reset import reset_factors
from authapi.services.mail import Mail, MailKind
from authapi.services.own_columns import OwnColumns, ProfileInput
from authapi.services.revalidation import lock_accounts, lock_target
from authapi.services.usernames import check_username, set_username
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


class AccountChanges(TypedDict, total=False):
    """Changes of an account. Members that are left out keep their values."""

    name: str | None
    username: Username | None
    is_active: bool
    is_superuser: bool
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page of a list of accounts, and the cursor of the next page; None on the last page."""

    items: Sequence[User]
    next: str | None


def _never_stale(_: User) -> bool:
    return False


class Administration:
    """Lists, invites and changes accounts on behalf of `actor`.

    `actor` is a superuser, or None for an operator at the command line, who has no account. The
    events name the actor. Each change checks inside its transaction that the actor still is a
    superuser: of two superusers who demote each other at the same time, one succeeds.

    With an actor, each change raises InvalidCredential if their session has ended,
    InsufficientAuthentication if it has not proved their second factor, and SuperuserRequired if
    they are no longer a superuser. Each call raises StorageUnavailable if the database does not
    answer.
    """

    def __init__(
        self,
        database: Database,
        audit: Audit,
        email_tokens: EmailTokens,
        mail: Mail,
        own_columns: OwnColumns,
        settings: Settings,
    ) -> None:
        self._database = database
        self._audit = audit
        self._own_columns = own_columns
        self._email_tokens = email_tokens
        self._mail = mail
        self._settings = settings

    async def page(
        self,
        filters: UserFilter,
        *,
        order: UserOrder = UserOrder.OLDEST,
        after: str | None = None,
        limit: int = 50,
    ) -> UserPage:
        """Returns up to `limit` accounts that follow the cursor `after`, with one query.

        Own columns take another query.

        Raises InvalidInput if `after` is not a cursor of a list in this order.
        """
        position = None if after is None else decode_cursor(after, order)
        if filters.role in self._settings.default_roles:
            filters = replace(filters, role=None)  # every user has a default role
        async with self._database.read() as store:
            users = await store.users.search(filters, order=order, after=position, limit=limit)
            users = await self._own_columns.load_all(store, users)
        is_full = len(users) == limit
        return UserPage(users, encode_cursor(users[-1], order) if is_full else None)

    @retry_on_conflict
    async def invite(
        self,
        email: EmailAddress,
        *,
        name: str | None = None,
        username: Username | None = None,
        roles: Collection[str] = (),
        actor: Identity | None = None,
        profile: ProfileInput | None = None,
    ) -> User:
        """Creates an account without a password, and mails its owner a link to choose one.

        `profile` are own columns; None stands for the defaults of the application. Raises
        MailDisabled if the settings disable mail, InvalidInput for an unknown role, if the setting
        `login_identifier` does not allow the user name, or for a profile that is incomplete or
        cannot be stored, ProfileTaken, EmailTaken, UsernameTaken.
        """
        if not self._settings.sends_mail:
            raise MailDisabled
        check_username(username, self._settings.login_identifier)
        profile = self._own_columns.new(profile)
        user = replace(
            new_user(email, name=name, username=username), roles=self._known_roles(roles)
        )
        async with self._database.transaction() as store:
            await store.users.lock_addresses(email.canonical)
            await lock_accounts(store, actor=actor)
            await add_user(store, user, email, None)
            user = await self._own_columns.add(store, user, profile)
            await self._email_tokens.send(store, user, MailKind.INVITATION)
            kind = EventType.ACCOUNT_INVITED
            await self._audit.record(store, kind, user_id=user.id, actor=actor)
        return user

    @retry_on_conflict
    async def resend_invitation(self, user_id: UUID, *, actor: Identity | None = None) -> User:
        """Mails another invitation to an account without a password and without confirmed address.

        The earlier invitation stops working. An imported account can be invited in this way too.

        Raises MailDisabled if the settings disable mail, NotInvited if the account has a password
        or a confirmed address or is deactivated, OwnAccount if it is that of `actor`, NotFound.
        """
        if not self._settings.sends_mail:
            raise MailDisabled
        async with self._database.transaction() as store:
            await lock_target(store, user_id, actor=actor, allow_own=False)
            user, password = await lock_user(store, user_id)
            if password is not None or user.email_confirmed_at is not None or not user.is_active:
                raise NotInvited
            await self._email_tokens.send(store, user, MailKind.INVITATION)
            kind = EventType.INVITATION_RESENT
            await self._audit.record(store, kind, user_id=user_id, actor=actor)
        return user

    @retry_on_conflict
    async def send_reset_link(self, user_id: UUID, *, actor: Identity | None = None) -> None:
        """Mails the owner of an account a link to choose a new password, as they could themselves.

        Only the mail has the link. An earlier link stops working; the password and all logins stay.

        Raises MailDisabled if the settings disable mail, AccountDeactivated, OwnAccount if it is
        that of `actor`, NotFound.
        """
        if not self._settings.sends_mail:
            raise MailDisabled
        async with self._database.transaction() as store:
            user = await lock_target(store, user_id, actor=actor, allow_own=False)
            if not user.is_active:
                raise AccountDeactivated
            await self._email_tokens.send(store, user, MailKind.RESET)
            kind = EventType.PASSWORD_RESET_SENT
            await self._audit.record(store, kind, user_id=user_id, actor=actor)

    @retry_on_conflict
    async def change(
        self,
        user_id: UUID,
        changes: AccountChanges,
        *,
        actor: Identity | None = None,
        is_stale: Callable[[User], bool] = _never_stale,
        profile: ProfileInput | None = None,
    ) -> User:
        """Applies all of `changes` in one transaction; returns the account.

        `is_stale` gets the current account and returns whether it differs from the version that
        the client has seen. Deactivation ends all sessions and tokens of the account. `profile`
        are changes of own columns.

        Raises PreconditionFailed if `is_stale` returns True, InvalidInput for an unknown role, if
        the setting `login_identifier` does not allow the user name, or for a value of `profile`
        that cannot be stored, ProfileTaken, UsernameTaken, LastSuperuser if the change would leave
        no active superuser, OwnAccount if `actor` changes more than the names and own columns of
        their own account, NotFound.
        """
        if "username" in changes:
            check_username(changes["username"], self._settings.login_identifier)
        roles = self._known_roles(changes["roles"]) if "roles" in changes else None
        async with self._database.transaction() as store:
            await lock_superusers(store)
            allow_own = changes.keys() <= {"name", "username"}
            user = await lock_target(store, user_id, actor=actor, allow_own=allow_own)
            if is_stale(await self._own_columns.load(store, user, lock=True)):
                raise PreconditionFailed
            if await self._own_columns.change(store, user, profile):
                await store.users.set_profile(user_id, {}, at=next_update_time(user))
                kind = EventType.PROFILE_CHANGED
                await self._audit.record(store, kind, user_id=user_id, actor=actor)
            if "name" in changes and changes["name"] != user.name:
                await store.users.set_name(user_id, changes["name"], at=next_update_time(user))
                kind = EventType.ACCOUNT_RENAMED
                await self._audit.record(store, kind, user_id=user_id, actor=actor)
            if "username" in changes:
                await set_username(
                    store,
                    self._audit,
                    user,
                    changes["username"],
                    at=next_update_time(user),
                    actor=actor,
                )
            if roles is not None:
                await set_roles(store, self._audit, user, roles, actor=actor)
            if "is_superuser" in changes:
                await set_superuser(
                    store,
                    self._audit,
                    user,
                    changes["is_superuser"],
                    settings=self._settings,
                    actor=actor,
                )
                user = replace(user, is_superuser=changes["is_superuser"])
            if "is_active" in changes:
                await set_active(store, self._audit, user, changes["is_active"], actor=actor)
            return await self._own_columns.load(store, await find_user(store, user_id))

    @retry_on_conflict
    async def end_sessions(self, user_id: UUID, *, actor: Identity | None = None) -> int:
        """Ends all sessions and tokens of an account; returns their number. Raises NotFound."""
        async with self._database.transaction() as store:
            await lock_target(store, user_id, actor=actor, allow_own=True)
            count = await store.sessions.end_all(user_id)
            await store.login_tickets.end_all(user_id)
            if count:
                kind = EventType.SESSIONS_ENDED
                await self._audit.record(store, kind, user_id=user_id, actor=actor, count=count)
        return count

    @retry_on_conflict
    async def reset_factors(self, user_id: UUID, *, actor: Identity | None = None) -> bool:
        """Removes all second factors of an account, ends its logins, and tells its owner.

        Personal access tokens stay. Returns whether there was a factor. Raises OwnAccount if it is
        the account of `actor`, NotFound.
        """
        async with self._database.transaction() as store:
            user = await lock_target(store, user_id, actor=actor, allow_own=False)
            return await reset_factors(store, self._audit, self._mail, user, actor=actor)

    def _known_roles(self, roles: Collection[str]) -> frozenset[str]:
        if not self._settings.roles.keys() >= set(roles):
            message = "includes a role that AUTHAPI_ROLES does not define"
            raise InvalidInput(InputError(("body", "roles"), "role_unknown", message))
        return frozenset(roles)


async def set_active(
    store: Store, audit: Audit, user: User, active: bool, *, actor: Identity | None = None
) -> None:
    """Activates or deactivates an account. Raises LastSuperuser.

    Deactivation ends all sessions and tokens of the account, and the links in mails.
    """
    if not active:
        await check_not_last_superuser(store, user)
        await store.sessions.end_all(user.id)
        await store.email_tokens.delete_for_user(user.id, REVOKED_ON_ACCOUNT_CHANGE)
        await store.login_tickets.end_all(user.id)
    if user.is_active != active:
        await store.users.set_active(user.id, active, at=next_update_time(user))
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
    """Grants or revokes superuser. Raises LastSuperuser."""
    if user.is_superuser == superuser:
        return
    if not superuser:
        await check_not_last_superuser(store, user)
        await _end_introspecting_sessions(store, audit, user, settings, actor)
    await store.users.set_superuser(user.id, superuser, at=next_update_time(user))
    kind = EventType.SUPERUSER_GRANTED if superuser else EventType.SUPERUSER_REVOKED
    await audit.record(store, kind, user_id=user.id, actor=actor)


async def _end_introspecting_sessions(
    store: Store, audit: Audit, user: User, settings: Settings, actor: Identity | None
) -> None:
    # Without roles in the settings, a session keeps the scopes that it was created with
    # (`domain/scopes`). The scope `introspect` came from being a superuser.
    remaining = login_scopes(replace(user, is_superuser=False), settings, amr=())
    if settings.roles or INTROSPECT in remaining:
        return
    ended = 0
    for personal in (True, False):
        for session in await store.sessions.list_for_user(user.id, personal=personal, now=now()):
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
    """Replaces the roles of an account."""
    if roles != user.roles:
        await store.users.set_roles(user.id, roles, at=next_update_time(user))
        kind = EventType.ROLES_CHANGED
        await audit.record(store, kind, user_id=user.id, actor=actor, roles=sorted(roles))
