"""`UserRow`: the accounts for the ORM of an application, read-only."""

from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapped, Mapper, object_session, registry

from authapi.domain.user import User
from authapi.errors import ReadOnlyRow
from authapi.storage.tables.users import user_columns


class UserRow:
    """An account, with the fields of `User`, for queries, joins and relationships.

    The rows are read-only: flushing a new, changed or deleted one raises ReadOnlyRow. Accounts
    change through authapi, which also records the event and invalidates cached identities. There is
    no attribute for the hash of the password.
    """

    id: Mapped[UUID]
    email: Mapped[str]
    """The address as the user entered it, as in `User.email`."""
    canonical_email: Mapped[str]
    """The form of the address that is unique and by which authapi looks it up."""
    name: Mapped[str | None]
    is_active: Mapped[bool]
    is_superuser: Mapped[bool]
    email_confirmed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    locale: Mapped[str | None]
    roles: Mapped[frozenset[str]]
    username: Mapped[str | None]
    """The user name in the case that its owner chose, as in `User.username`."""
    mfa_since: Mapped[datetime | None]
    """Since when the account has a second factor, as in `User.mfa_since`."""
    canonical_username: Mapped[str | None]
    """The form of the user name that is unique and by which authapi looks it up."""


def map_users(users: sa.Table) -> type[UserRow]:
    """Returns a new subclass of `UserRow` that is mapped to `users`."""
    row = type("UserRow", (UserRow,), {"__module__": "authapi.orm", "__doc__": UserRow.__doc__})
    columns = dict(zip(User.__slots__, user_columns(users), strict=True))
    columns |= {"canonical_email": users.c.email, "canonical_username": users.c.username}
    registry().map_imperatively(
        row,
        users,
        properties=columns,
        include_properties={column.name for column in users.c}
        & {column.name for column in columns.values()},
    )
    for moment in ("before_insert", "before_delete"):
        event.listen(row, moment, _refuse)
    event.listen(row, "before_update", _refuse_changes)
    return row


def _refuse(_: Mapper[Any], __: sa.Connection, ___: UserRow) -> NoReturn:
    raise ReadOnlyRow("UserRow is read-only: create, change and delete accounts through authapi")


def _refuse_changes(mapper: Mapper[Any], connection: sa.Connection, row: UserRow) -> None:
    # Also called if only a relationship to the row has changed, which changes another table.
    session = object_session(row)
    if session is not None and session.is_modified(row, include_collections=False):
        _refuse(mapper, connection, row)
