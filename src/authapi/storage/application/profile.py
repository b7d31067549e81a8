"""`Profile`: a table of the application that adds members to accounts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from authapi.errors import ConfigurationError
from authapi.storage.names import TableNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Members of the application's own, which the API shows as `profile` of an account.

    `table` is a table of SQLAlchemy, or a mapped class, with one row for each account; one column
    is unique and has the foreign key `authapi.orm.user_fk()`. The fields of the models have the
    names of columns. `create` validates a new profile, `update` a change, in which members may be
    left out, and `read` is what the API shows.

    `GET /me` reads the row by one query. With `cached`, the row stays in memory like the caller,
    and the application calls `AuthAPI.changed` after it has changed a row itself.
    """

    table: sa.Table | type[Any]
    create: type[BaseModel]
    update: type[BaseModel]
    read: type[BaseModel]
    cached: bool = False


def table_of(profile: Profile) -> sa.Table:
    """Returns the table of a profile. Raises ConfigurationError if there is none."""
    table = getattr(profile.table, "__table__", profile.table)
    if not isinstance(table, sa.Table):
        raise ConfigurationError("Profile(table=...) takes a table of SQLAlchemy or a mapped class")
    return table


def key_of(profile: Profile, names: TableNames) -> sa.Column[Any]:
    """Returns the column that refers to the account, after all checks of the declaration.

    Raises ConfigurationError if the table or a model cannot be used.
    """
    table, target = table_of(profile), names.column("users", "id")
    keys = [
        column
        for column in table.columns
        if any(key.target_fullname == target for key in column.foreign_keys)
    ]
    if len(keys) != 1:
        found = "several foreign keys" if keys else "no foreign key"
        raise ConfigurationError(
            f"Profile: the table {table.name} has {found} to {target}; it needs one: user_fk()"
        )
    [key] = keys
    if not any(columns == {key} for columns in unique_columns(table)):
        raise ConfigurationError(
            f"Profile: {table.name}.{key.name} must be the primary key or unique: "
            "an account has one profile"
        )
    _check_models(profile, table, key)
    _check_deferred(table, key)
    return key


def unique_columns(table: sa.Table) -> Iterable[set[sa.Column[Any]]]:
    """Yields the columns of each unique constraint and unique index of `table`.

    Not those of indexes on expressions or on a part of the rows.
    """
    yield set(table.primary_key.columns)
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            yield set(constraint.columns)
    for index in table.indexes:
        is_partial = any(option.endswith("_where") for option in index.dialect_kwargs)
        if index.unique and not is_partial and len(index.columns) == len(index.expressions):
            yield set(index.columns)


def _check_models(profile: Profile, table: sa.Table, key: sa.Column[Any]) -> None:
    columns = {column.key: column for column in table.columns}
    for name in ("create", "update", "read"):
        model = getattr(profile, name)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ConfigurationError(f"Profile({name}=...) takes a model of pydantic")
        for field in model.model_fields:
            if field not in columns or (field == key.key and name != "read"):
                raise ConfigurationError(
                    f"Profile: {model.__name__}.{field} is no column of {table.name} "
                    f"that {name} may have"
                )
    for column in table.columns:
        has_value = (
            column.nullable
            or column is table.autoincrement_column
            or any((column.default, column.server_default, column.computed, column.identity))
        )
        if not has_value and column is not key and column.key not in profile.create.model_fields:
            raise ConfigurationError(
                f"Profile: {table.name}.{column.name} is not null and has no default, "
                f"and {profile.create.__name__} has no field of this name"
            )


def _check_deferred(table: sa.Table, key: sa.Column[Any]) -> None:
    # The database would refuse at the commit, where the value at fault is no longer known.
    for constraint in table.constraints:
        is_ours = isinstance(constraint, sa.ForeignKeyConstraint) and list(constraint.columns) == [
            key
        ]
        if str(constraint.initially or "").upper() == "DEFERRED" and not is_ours:
            raise ConfigurationError(
                f"Profile: a constraint of {table.name} is deferred to the commit; "
                "declare it without initially='DEFERRED'"
            )
