"""Queries on `users`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.passwords import PasswordHash
from authapi.domain.user import User, UserFilter, UserOrder, UserPosition
from authapi.domain.username import Username, parse_username
from authapi.errors import AccountInUse, EmailTaken
from authapi.storage.driver_errors import is_reference_violation
from authapi.storage.models import OWNER_CHANGES, Tables
from authapi.storage.names import TableNames
from authapi.storage.tables.statements import any_of, insert_many

_FIELDS = tuple(field.name for field in fields(User))
_GIVEN = {"email": "email_given", "username": "username_given"}
_COLUMN_NAMES = tuple(_GIVEN.get(name, name) for name in _FIELDS)


@cache
def user_columns(users: sa.Table) -> Sequence[sa.Column[Any]]:
    """Returns the columns of a `User`, in the order of its fields.

    They have the names of the fields, except the address and the user name: the columns `email` and
    `username` have their canonical forms.
    """
    return tuple(users.c[name] for name in _COLUMN_NAMES)


@cache
def _address_locks(names: TableNames) -> sa.TextClause:
    """Returns the statement that takes the locks in the order of the array of addresses.

    `unnest` returns its elements in order.
    """
    # The names are validated settings without quotation marks.
    return sa.text(
        f"SELECT pg_advisory_xact_lock(hashtextextended('{names.lock} address ' || email, 0))"  # noqa: S608  # validated
        " FROM unnest(CAST(:emails AS text[])) AS email"
    )


class Credentials(NamedTuple):
    """An account with the hash of its password, and the number of changes of its credentials."""

    user: User
    password_hash: PasswordHash | None
    version: int


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account to insert, with its canonical address and password hash."""

    user: User
    email: str
    password_hash: PasswordHash | None
    profile: Mapping[str, object] | None = None
    """The values of own columns of the application, in a table of its own."""


class UserTable:
    """The accounts, inside one transaction.

    Every method that changes an account adds it to the changed users of the transaction, except
    `add`, `add_missing` and `replace_hash`: no process has cached an account that did not exist,
    and a cached identity does not contain the hash.
    """

    def __init__(self, connection: AsyncConnection, tables: Tables, changed: set[UUID]) -> None:
        self._connection = connection
        self._tables, self._users, self._outbox = tables, tables.users, tables.outbox
        self._changed = changed
        self.has_deleted = False
        """Whether this transaction has deleted an account, or tried to."""

    async def lock_addresses(self, *emails: str) -> None:
        """Locks these canonical addresses until the commit, against transactions that use them too.

        Must be called before any row is locked. The unique index on the address also makes
        transactions wait, but in the order of their statements. This method takes advisory locks in
        alphabetical order, so that two transactions with the same addresses do not deadlock. Does
        nothing on SQLite.
        """
        if self._connection.dialect.name == "postgresql":
            await self._connection.execute(
                _address_locks(self._tables.names), {"emails": sorted(set(emails))}
            )

    async def add(self, user: User, *, email: str, password_hash: PasswordHash | None) -> None:
        """Inserts `user` with the canonical `email`. Raises EmailTaken if an account has it."""
        try:
            await self._connection.execute(
                sa.insert(self._users).values(_values(user, email, password_hash))
            )
        except IntegrityError:
            # The unique index decides, not a query before: one of two concurrent inserts succeeds.
            raise EmailTaken from None

    async def add_missing(self, new_users: Sequence[NewUser]) -> set[UUID]:
        """Inserts the users whose address and id no account has. Returns the ids of those.

        Inserts in the order of the addresses, because an insert waits for a concurrent insert of
        the same address.
        """
        if not new_users:
            return set()
        rows = [
            _values(new.user, new.email, new.password_hash)
            for new in sorted(new_users, key=lambda new: new.email)
        ]
        insert, parameters = insert_many(self._connection.dialect, self._users, rows)
        inserted = await self._connection.execute(
            insert.on_conflict_do_nothing().returning(self._users.c.id), parameters
        )
        return set(inserted.scalars())

    async def find_existing_emails(self, emails: Collection[str]) -> set[str]:
        """Returns those of these canonical addresses that accounts have."""
        is_one = any_of(self._connection.dialect, self._users.c.email, emails)
        rows = await self._connection.execute(sa.select(self._users.c.email).where(is_one))
        return set(rows.scalars())

    async def find_owners(
        self, user_ids: Collection[UUID], emails: Collection[str]
    ) -> Sequence[tuple[UUID, str]]:
        """Returns id and canonical address of each account that has one of the ids or addresses."""
        dialect, columns = self._connection.dialect, self._users.c
        rows = await self._connection.execute(
            sa.select(columns.id, columns.email).where(
                any_of(dialect, columns.id, user_ids) | any_of(dialect, columns.email, emails)
            )
        )
        return [(row.id, row.email) for row in rows]

    async def find(self, user_id: UUID) -> User | None:
        """Returns the account with this id, or None."""
        return await self._one(self._users.c.id == user_id)

    async def find_by_email(self, email: str) -> User | None:
        """Returns the account with this canonical address, or None."""
        return await self._one(self._users.c.email == email)

    async def find_credentials(self, user_id: UUID) -> Credentials | None:
        """Returns the account with this id and its password hash, or None."""
        return await self._credentials(self._users.c.id == user_id)

    async def find_credentials_by_email(self, email: str) -> Credentials | None:
        """Returns the account with this canonical address and its password hash, or None."""
        return await self._credentials(self._users.c.email == email)

    async def find_credentials_by_username(self, username: str) -> Credentials | None:
        """Returns the account with this canonical user name and its password hash, or None."""
        return await self._credentials(self._users.c.username == username)

    async def find_by_username(self, username: str) -> User | None:
        """Returns the account with this canonical user name, or None."""
        return await self._one(self._users.c.username == username)

    async def find_email_by_username(self, username: str) -> str | None:
        """Returns the canonical address of the account with this canonical user name, or None."""
        statement = sa.select(self._users.c.email).where(self._users.c.username == username)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def lock(self, user_id: UUID) -> Credentials | None:
        """Locks the account against other writers until the commit, and returns `find_credentials`.

        The lock is `FOR NO KEY UPDATE`, so that other transactions can still insert rows that refer
        to the account: their foreign key check takes `FOR KEY SHARE`. An account is always locked
        before its sessions and other rows.
        """
        return await self._credentials(self._users.c.id == user_id, lock=True)

    async def lock_all(self, user_ids: Collection[UUID]) -> Mapping[UUID, User]:
        """Locks the existing accounts among `user_ids` until the commit, and returns them by id.

        Locks in the order of the ids, so that concurrent calls do not deadlock.
        """
        statement = (
            sa.select(*user_columns(self._users))
            .where(self._users.c.id.in_(user_ids))
            .order_by(self._users.c.id)
        )
        rows = await self._connection.execute(statement.with_for_update(key_share=True))
        return {user.id: user for user in map(_user, rows)}

    async def search(
        self,
        filters: UserFilter,
        *,
        order: UserOrder,
        after: UserPosition | None,
        limit: int,
    ) -> Sequence[User]:
        """Returns up to `limit` matching accounts that come after `after` in `order`."""
        statement = sa.select(*user_columns(self._users)).where(*_conditions(self._users, filters))
        by_age = order in (UserOrder.OLDEST, UserOrder.NEWEST)
        # Addresses are unique, but two accounts can have the same creation time.
        columns = (self._users.c.created_at, self._users.c.id) if by_age else (self._users.c.email,)
        is_descending = order.startswith("-")
        if after is not None:
            values = (after.created_at, after.id) if by_age else (after.email,)
            pairs = zip(values, columns, strict=True)
            row = sa.tuple_(*columns)
            last = sa.tuple_(*(sa.literal(value, column.type) for value, column in pairs))
            statement = statement.where(row < last if is_descending else row > last)
        statement = statement.order_by(
            *(column.desc() if is_descending else column.asc() for column in columns)
        )
        return [_user(row) for row in await self._connection.execute(statement.limit(limit))]

    async def without_password(self, user_ids: Collection[UUID]) -> Collection[UUID]:
        """Returns those of the ids whose accounts have no password."""
        statement = sa.select(self._users.c.id).where(
            self._users.c.id.in_(user_ids), self._users.c.password_hash.is_(None)
        )
        return frozenset((await self._connection.execute(statement)).scalars())

    async def has_other_superuser(self, user_id: UUID) -> bool:
        """Returns whether there is another active superuser."""
        other = sa.exists().where(
            self._users.c.is_superuser, self._users.c.is_active, self._users.c.id != user_id
        )
        return bool(await self._connection.scalar(sa.select(other)))

    async def set_name(self, user_id: UUID, name: str | None, *, at: datetime) -> None:
        """Changes the name."""
        await self._update(user_id, name=name, updated_at=at)

    async def set_profile(
        self, user_id: UUID, changes: Mapping[str, object], *, at: datetime
    ) -> None:
        """Sets each column in `changes`, which maps names to values.

        Raises ValueError for a column whose `info` is not `OWNER_CHANGES`.
        """
        if not changes.keys() <= {c.name for c in self._users.c if c.info == OWNER_CHANGES}:
            raise ValueError("the owner does not change this column")
        await self._update(user_id, **changes, updated_at=at)

    async def set_username(self, user_id: UUID, username: Username | None, *, at: datetime) -> None:
        """Changes the user name, which the account has claimed with `UsernameTable.claim`."""
        values = _username_values(username)
        await self._update(user_id, **values, updated_at=at)

    async def confirm_email(self, user_id: UUID, *, at: datetime) -> None:
        """Sets the time at which the user confirmed the address."""
        await self._update(user_id, email_confirmed_at=at, updated_at=at)

    async def set_email(self, user_id: UUID, *, email: str, given: str, at: datetime) -> None:
        """Changes the address to `email` (canonical) and `given` (as entered), confirmed at `at`.

        Raises EmailTaken if another account has it.
        """
        values = {"email": email, "email_given": given, "email_confirmed_at": at}
        try:
            await self._update(user_id, **values, updated_at=at)
        except IntegrityError:
            raise EmailTaken from None

    async def set_password(
        self, user_id: UUID, password: PasswordHash | None, *, at: datetime
    ) -> None:
        """Changes the password hash, which invalidates mailed tokens, and logins under way."""
        columns = self._users.c
        changed = (columns.password_version, columns.credentials_version)
        versions = {column.name: column + 1 for column in changed}
        await self._update(user_id, password_hash=password, **versions, updated_at=at)

    async def set_mfa(self, user_id: UUID, since: datetime | None, *, at: datetime) -> None:
        """Sets since when the account has a second factor, or that it has none.

        A login that began before cannot complete after it.
        """
        version = self._users.c.credentials_version + 1
        await self._update(user_id, mfa_since=since, credentials_version=version, updated_at=at)

    async def password_version(self, user_id: UUID) -> int | None:
        """Returns the number of password changes, or None if there is no such account."""
        statement = sa.select(self._users.c.password_version).where(self._users.c.id == user_id)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def replace_hash(self, user_id: UUID, old: PasswordHash, new: PasswordHash) -> bool:
        """Replaces the hash `old` by a stronger hash of the same password.

        Returns False if `old` was replaced in the meantime.
        """
        result = await self._connection.execute(
            sa.update(self._users)
            .where(self._users.c.id == user_id, self._users.c.password_hash == old)
            .values(password_hash=new)
        )
        return result.rowcount == 1

    async def set_active(self, user_id: UUID, active: bool, *, at: datetime) -> None:
        """Activates or deactivates the account."""
        await self._update(user_id, is_active=active, updated_at=at)

    async def set_superuser(self, user_id: UUID, superuser: bool, *, at: datetime) -> None:
        """Grants or revokes the rights of a superuser."""
        await self._update(user_id, is_superuser=superuser, updated_at=at)

    async def set_roles(self, user_id: UUID, roles: frozenset[str], *, at: datetime) -> None:
        """Replaces the roles of the account."""
        await self._update(user_id, roles=roles, updated_at=at)

    async def delete(self, user_id: UUID) -> bool:
        """Deletes the account and, by the foreign keys, its sessions, tokens and outbox entries.

        Returns False if there was no such account. Locks the outbox entries first, in the order of
        their ids as other transactions do, because the foreign key would lock them in any order.

        Raises AccountInUse if a row of the application refers to it. If that foreign key is
        deferred, `Database.transaction` raises it at the commit.
        """
        self.has_deleted = True
        self._changed.add(user_id)
        await self._connection.execute(
            sa.select(self._outbox.c.id)
            .where(self._outbox.c.user_id == user_id)
            .order_by(self._outbox.c.id)
            .with_for_update()
        )
        statement = sa.delete(self._users).where(self._users.c.id == user_id)
        try:
            result = await self._connection.execute(statement)
        except IntegrityError as error:
            if is_reference_violation(error):
                raise AccountInUse from error
            raise
        return result.rowcount == 1

    async def _one(self, condition: sa.ColumnElement[bool]) -> User | None:
        statement = sa.select(*user_columns(self._users)).where(condition)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _user(row)

    async def _credentials(
        self, condition: sa.ColumnElement[bool], *, lock: bool = False
    ) -> Credentials | None:
        columns = self._users.c
        statement = sa.select(
            *user_columns(self._users), columns.password_hash, columns.credentials_version
        ).where(condition)
        if lock:
            statement = statement.with_for_update(key_share=True)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else Credentials(_user(row[:-2]), row[-2], row[-1])

    async def _update(self, user_id: UUID, **values: object) -> None:
        self._changed.add(user_id)
        await self._connection.execute(
            sa.update(self._users).where(self._users.c.id == user_id).values(**values)
        )


def _values(user: User, email: str, password_hash: PasswordHash | None) -> dict[str, object]:
    names = zip(_COLUMN_NAMES, _FIELDS, strict=True)
    values = {column: getattr(user, field) for column, field in names}
    name = None if user.username is None else parse_username(user.username)
    return values | _username_values(name) | {"email": email, "password_hash": password_hash}


def _username_values(name: Username | None) -> dict[str, object]:
    return {
        "username": None if name is None else name.canonical,
        "username_given": None if name is None else name.original,
    }


def _user(row: Sequence[Any]) -> User:
    return User(*row)


def _conditions(users: sa.Table, filters: UserFilter) -> Sequence[sa.ColumnElement[bool]]:
    """Returns the conditions as SQL, with bound parameters and escaped LIKE wildcards."""
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.email_prefix:
        conditions.append(users.c.email.startswith(filters.email_prefix, autoescape=True))
    if filters.username_prefix:
        conditions.append(users.c.username.startswith(filters.username_prefix, autoescape=True))
    if filters.active is not None:
        conditions.append(users.c.is_active.is_(filters.active))
    if filters.confirmed is not None:
        confirmed = users.c.email_confirmed_at.is_not(None)
        conditions.append(confirmed if filters.confirmed else sa.not_(confirmed))
    if filters.superuser is not None:
        conditions.append(users.c.is_superuser.is_(filters.superuser))
    if filters.role is not None:
        text = sa.type_coerce(users.c.roles, sa.String)
        conditions.append(text.contains(f",{filters.role},", autoescape=True))
    return conditions
