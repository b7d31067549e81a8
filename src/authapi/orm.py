"""The accounts for the tables of an application: foreign keys, joins and relationships.

The application keeps its own MetaData, and its own Alembic chain in the same database. The names of
this module stand for the tables that the environment names (`AUTHAPI_TABLE_PREFIX`,
`AUTHAPI_DATABASE_SCHEMA`), which is read when the first of them is used. `ORM` has the same for
other names. See `docs/one-database.md`.
"""

from typing import TYPE_CHECKING

from authapi.storage.schema.orm import ORM, OnDelete, orm_of_environment

if TYPE_CHECKING:
    from authapi.storage.models.accounts import UserRow

    users = orm_of_environment().users
    user_fk = orm_of_environment().user_fk
    include_name = orm_of_environment().include_name
    include_object = orm_of_environment().include_object

__all__ = ["ORM", "OnDelete", "UserRow", "include_name", "include_object", "user_fk", "users"]

if not TYPE_CHECKING:  # type checkers would accept every name as an attribute of this module

    def __getattr__(name: str) -> object:
        # On first use, so that settings in code can do without the names in the environment.
        if name in __all__:
            value = getattr(orm_of_environment(), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
