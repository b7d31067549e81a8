"""Queries on `users`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.passwords import PasswordHash
from authapi.errors import EmailTaken
from authapi.identity import User
from authapi.storage.models import outbox, users

USER_COLUMNS = (
    users.c.id,
    users.c.email_given,
    users.c.name,
    users.c.is_active,
    users.c.is_superuser,
    users.c.email_confirmed_at,
    users.c.created_at,
    users.c.updated_at,
    users.c.locale,
    users.c.roles,
)
"""What a `User` is made of, in the order of its fields."""

_Insert = Callable[[sa.Table], sqlite.Insert | postgresql.Insert]
_INSERTS: Mapping[str, _Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""An insert that may find that somebody was faster is no part of standard SQL."""

_ADDRESS_LOCKS = sa.text(
    "SELECT pg_advisory_xact_lock(hashtextextended('authapi address ' || email, 0))"
    " FROM unnest(CAST(:emails AS text[])) AS email"
)
"""In the order of the array: `unnest` gives its members one after another."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """An account to be: with its canonical address, and what its password is proved by."""

    user: User
    email: str
    password_hash: PasswordHash | None


class UserOrder(StrEnum):
    """How accounts are listed; a minus stands for the other direction."""

    OLDEST = "created_at"
    NEWEST = "-created_at"
    EMAIL = "email"
    EMAIL_DESCENDING = "-email"


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which accounts are asked for; None stands for any."""

    email_prefix: str | None = None
    """What the canonical address begins with."""
    active: bool | None = None
    confirmed: bool | None = None
    superuser: bool | None = None
    role: str | None = None

    def conditions(self) -> Sequence[sa.ColumnElement[bool]]:
        """The same, as SQL: values are bound, and what LIKE reads as a sign is escaped."""
        found: list[sa.ColumnElement[bool]] = []
        if self.email_prefix:
            found.append(users.c.email.startswith(self.email_prefix, autoescape=True))
        if self.active is not None:
            found.append(users.c.is_active.is_(self.active))
        if self.confirmed is not None:
            confirmed = users.c.email_confirmed_at.is_not(None)
            found.append(confirmed if self.confirmed else sa.not_(confirmed))
        if self.superuser is not None:
            found.append(users.c.is_superuser.is_(self.superuser))
        if self.role is not None:
            text = sa.type_coerce(users.c.roles, sa.String)
            found.append(text.contains(f",{self.role},", autoescape=True))
        return found


@dataclass(frozen=True, slots=True)
class UserPosition:
    """Where in a list of accounts to go on: behind this one, be it still there or not."""

    id: UUID
    created_at: datetime | None = None
    """In a list by age."""
    email: str | None = None
    """The canonical address, in a list by address."""


class UserTable:
    """Accounts, inside one transaction."""

    def __init__(self, connection: AsyncConnection, changed: set[UUID]) -> None:
        self._connection = connection
        self._changed = changed

    async def wait_for_addresses(self, *emails: str) -> None:
        """Hold these canonical addresses until the commit: wait for who else gives or frees them.

        Called before any row is locked. The unique index on the address makes transactions wait
        too, but in the order of their statements; this takes advisory locks in the order of the
        text, so that two that are about the same addresses do not wait for one another.
        """
        if self._connection.dialect.name == "postgresql":
            await self._connection.execute(_ADDRESS_LOCKS, {"emails": sorted(set(emails))})

    async def add(self, user: User, *, email: str, password_hash: PasswordHash | None) -> None:
        """Insert `user` under the canonical `email`. Raises EmailTaken."""
        try:
            await self._connection.execute(
                sa.insert(users).values(_values(user, email, password_hash))
            )
        except IntegrityError:
            # The unique index decides, not a look beforehand: of two at the same time one wins.
            raise EmailTaken from None

    async def add_missing(self, newcomers: Sequence[Newcomer]) -> set[UUID]:
        """Insert those whose address no account has; the ids of those that were inserted.

        In the order of the addresses, as each insert waits for others of its address.
        """
        if not newcomers:
            return set()
        insert = _INSERTS[self._connection.dialect.name](users)
        found = await self._connection.execute(
            insert.on_conflict_do_nothing(index_elements=[users.c.email]).returning(users.c.id),
            [
                _values(it.user, it.email, it.password_hash)
                for it in sorted(newcomers, key=lambda it: it.email)
            ],
        )
        return set(found.scalars())

    async def taken(self, emails: Collection[str]) -> set[str]:
        """Which of these canonical addresses somebody has."""
        found = await self._connection.execute(
            sa.select(users.c.email).where(users.c.email.in_(emails))
        )
        return set(found.scalars())

    async def find(self, user_id: UUID) -> User | None:
        """The account with this id."""
        return await self._one(sa.select(*USER_COLUMNS).where(users.c.id == user_id))

    async def find_by_email(self, email: str) -> User | None:
        """The account with this canonical address."""
        return await self._one(sa.select(*USER_COLUMNS).where(users.c.email == email))

    async def find_credentials(self, user_id: UUID) -> tuple[User, PasswordHash | None] | None:
        """The account with this id, and its password hash."""
        return await self._credentials(users.c.id == user_id)

    async def find_credentials_by_email(
        self, email: str
    ) -> tuple[User, PasswordHash | None] | None:
        """The account with this canonical address, and its password hash."""
        return await self._credentials(users.c.email == email)

    async def lock(self, user_id: UUID) -> tuple[User, PasswordHash | None] | None:
        """The account and its password hash, held against other writers until the commit.

        `FOR NO KEY UPDATE`: rows of other tables that refer to the account can still be inserted,
        whose foreign key is checked by a lock `FOR KEY SHARE`. An account is held before its
        sessions and all else that belongs to it.
        """
        return await self._credentials(users.c.id == user_id, lock=True)

    async def lock_all(self, user_ids: Collection[UUID]) -> Mapping[UUID, User]:
        """Those of these accounts that there are, held against other writers until the commit.

        In the order of their ids, so that no two who hold several wait for one another.
        """
        statement = sa.select(*USER_COLUMNS).where(users.c.id.in_(user_ids)).order_by(users.c.id)
        rows = await self._connection.execute(statement.with_for_update(key_share=True))
        return {user.id: user for user in map(_user, rows)}

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[User]:
        """Up to `limit` accounts whose ids follow `after`, by id, which is by age."""
        statement = sa.select(*USER_COLUMNS).order_by(users.c.id).limit(limit)
        if after is not None:
            statement = statement.where(users.c.id > after)
        return [_user(row) for row in await self._connection.execute(statement)]

    async def search(
        self,
        wanted: UserFilter,
        *,
        order: UserOrder,
        after: UserPosition | None,
        limit: int,
    ) -> Sequence[User]:
        """Up to `limit` accounts behind `after`."""
        statement = sa.select(*USER_COLUMNS).where(*wanted.conditions())
        by_age = order in (UserOrder.OLDEST, UserOrder.NEWEST)
        # Addresses are unique; two accounts may have begun in the same microsecond.
        columns = (users.c.created_at, users.c.id) if by_age else (users.c.email,)
        downwards = order.startswith("-")
        if after is not None:
            values = (after.created_at, after.id) if by_age else (after.email,)
            pairs = zip(values, columns, strict=True)
            here, there = sa.tuple_(*columns), sa.tuple_(*(sa.literal(v, c.type) for v, c in pairs))
            statement = statement.where(here < there if downwards else here > there)
        statement = statement.order_by(*(c.desc() if downwards else c.asc() for c in columns))
        return [_user(row) for row in await self._connection.execute(statement.limit(limit))]

    async def has_superuser_besides(self, user_id: UUID) -> bool:
        """Whether anybody else is a superuser who can log in."""
        statement = sa.select(
            sa.exists().where(users.c.is_superuser, users.c.is_active, users.c.id != user_id)
        )
        return bool(await self._connection.scalar(statement))

    async def set_name(self, user_id: UUID, name: str | None, *, at: datetime) -> None:
        """Change the name."""
        await self._update(user_id, name=name, updated_at=at)

    async def set_locale(self, user_id: UUID, locale: str | None, *, at: datetime) -> None:
        """Change the language that they are written to in."""
        await self._update(user_id, locale=locale, updated_at=at)

    async def confirm_email(self, user_id: UUID, *, at: datetime) -> None:
        """Note that the address was found to be its owner's."""
        await self._update(user_id, email_confirmed_at=at, updated_at=at)

    async def set_email(self, user_id: UUID, *, email: str, given: str, at: datetime) -> None:
        """Change the address to the canonical `email`, confirmed. Raises EmailTaken."""
        values = {"email": email, "email_given": given, "email_confirmed_at": at}
        try:
            await self._update(user_id, **values, updated_at=at)
        except IntegrityError:
            raise EmailTaken from None

    async def set_password(
        self, user_id: UUID, password: PasswordHash | None, *, at: datetime
    ) -> None:
        """Change the password hash, and with it what was sent by mail before."""
        version = users.c.password_version + 1
        await self._update(user_id, password_hash=password, password_version=version, updated_at=at)

    async def password_version(self, user_id: UUID) -> int | None:
        """How often the password was changed; None if there is no such account."""
        statement = sa.select(users.c.password_version).where(users.c.id == user_id)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def replace_hash(self, user_id: UUID, old: PasswordHash, new: PasswordHash) -> bool:
        """Store the same password under a stronger hash, unless `old` was replaced meanwhile.

        Whether it is stored.
        """
        found = await self._connection.execute(
            sa.update(users)
            .where(users.c.id == user_id, users.c.password_hash == old)
            .values(password_hash=new)
        )
        return found.rowcount == 1

    async def set_active(self, user_id: UUID, active: bool, *, at: datetime) -> None:
        """Activate or deactivate the account."""
        await self._update(user_id, is_active=active, updated_at=at)

    async def set_superuser(self, user_id: UUID, superuser: bool, *, at: datetime) -> None:
        """Make the account a superuser's, or not any more."""
        await self._update(user_id, is_superuser=superuser, updated_at=at)

    async def set_roles(self, user_id: UUID, roles: frozenset[str], *, at: datetime) -> None:
        """Give the account these roles and no others."""
        await self._update(user_id, roles=roles, updated_at=at)

    async def delete(self, user_id: UUID) -> bool:
        """Remove the account and, by the foreign key, all that is its own; whether it was there.

        Its entries in the outbox are locked by their ids first: others lock several of those in
        this order too, and the foreign key would take them in any.
        """
        self._changed.add(user_id)
        await self._connection.execute(
            sa.select(outbox.c.id)
            .where(outbox.c.user_id == user_id)
            .order_by(outbox.c.id)
            .with_for_update()
        )
        result = await self._connection.execute(sa.delete(users).where(users.c.id == user_id))
        return result.rowcount == 1

    async def _one(self, statement: sa.Select[Any]) -> User | None:
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _user(row)

    async def _credentials(
        self, condition: sa.ColumnElement[bool], *, lock: bool = False
    ) -> tuple[User, PasswordHash | None] | None:
        statement = sa.select(*USER_COLUMNS, users.c.password_hash).where(condition)
        if lock:
            statement = statement.with_for_update(key_share=True)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else (_user(row[:-1]), row[-1])

    async def _update(self, user_id: UUID, **values: object) -> None:
        self._changed.add(user_id)
        await self._connection.execute(
            sa.update(users).where(users.c.id == user_id).values(**values)
        )


def _values(user: User, email: str, password_hash: PasswordHash | None) -> dict[str, object]:
    return {
        "id": user.id,
        "email": email,
        "email_given": user.email,
        "name": user.name,
        "password_hash": password_hash,
        "is_active": user.is_active,
        "is_superuser": user.is_superuser,
        "email_confirmed_at": user.email_confirmed_at,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "locale": user.locale,
        "roles": user.roles,
    }


def _user(row: Sequence[Any]) -> User:
    return User(*row)
