"""What an application needs to refer to accounts from its own tables."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.sql.schema import SchemaItem

from authapi.settings import load_table_settings
from authapi.storage.models import tables_of
from authapi.storage.models.accounts import UserRow
from authapi.storage.names import DEFAULT_NAMES, TableNames
from authapi.storage.schema import described
from authapi.storage.schema.filters import OtherNames, ParentKey
from authapi.storage.schema.rows import map_users

OnDelete = Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]
"""What the database does with a row that refers to an account which is deleted."""


class _UserForeignKey(sa.ForeignKey):
    """A foreign key that keeps its column in copies.

    SQLAlchemy copies the columns of a mixin, and its own copy would look for our table by its name
    in the MetaData of the application.
    """

    def _copy(self, *, schema: str | None = None, **_: Any) -> "_UserForeignKey":
        return _UserForeignKey(
            self.column,
            name=self.name,
            ondelete=self.ondelete,
            deferrable=self.deferrable,
            initially=self.initially,
        )


class ORM:
    """The accounts of an installation with these names, for the tables of an application.

    `authapi.orm` has one for the names in the environment. Create one for settings in code that
    choose a prefix or a schema. Equal names share the table and the mapped class.
    """

    def __init__(self, *, prefix: str = DEFAULT_NAMES.prefix, schema: str | None = None) -> None:
        names = TableNames(prefix, schema)
        described.note(names, from_environment=False)
        self.users: sa.Table = tables_of(names).users
        """The table of accounts. Its MetaData is not the application's."""
        self.UserRow: type[UserRow] = _row_of(names)
        """The mapped, read-only class of the accounts."""
        self._other = OtherNames(names)

    def user_fk(
        self,
        *,
        ondelete: OnDelete | None = None,
        name: str | None = None,
        deferrable: bool | None = None,
        initially: Literal["DEFERRED", "IMMEDIATE"] | None = None,
    ) -> sa.ForeignKey:
        """Returns a new foreign key to the id of an account, for one column.

        If `ondelete` is None, `RESTRICT` or `NO ACTION`, the database refuses to delete an account
        that has rows: `DELETE /me` and the other ways raise AccountInUse, 409 `account_in_use`.
        """
        return _UserForeignKey(
            self.users.c.id,
            ondelete=ondelete,
            name=name,
            deferrable=deferrable,
            initially=initially,
        )

    def include_name(
        self, name: str | None, kind: str, parents: Mapping[ParentKey, str | None]
    ) -> bool:
        """Returns whether a name in the database is the application's: Alembic's `include_name`."""
        return self._other.include_name(name, kind, parents)

    def include_object(
        self,
        item: SchemaItem,
        name: str | None,
        kind: str,
        reflected: bool,
        compare_to: SchemaItem | None,
    ) -> bool:
        """Returns whether an object is the application's: Alembic's `include_object`."""
        return self._other.include_object(item, name, kind, reflected, compare_to)


@cache
def orm_of_environment() -> ORM:
    """Returns the ORM for the names in the environment, `.env` included.

    Raises ConfigurationError if one of them is invalid.
    """
    names = TableNames.of(load_table_settings())
    described.note(names, from_environment=True)
    return ORM(prefix=names.prefix, schema=names.schema)


@cache
def _row_of(names: TableNames) -> type[UserRow]:
    return map_users(tables_of(names).users)
