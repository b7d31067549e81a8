"""Maps `UserRow`, the accounts for the ORM of an application, which are read-only."""

from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapper, object_session, registry

from authapi.domain.user import User
from authapi.errors import ReadOnlyRow
from authapi.storage.models.accounts import UserRow
from authapi.storage.tables.users import user_columns


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
