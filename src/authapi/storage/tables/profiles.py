"""Queries on the table of an application that adds members to accounts (`Profile`)."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.schema import ColumnCollectionConstraint

from authapi.errors import AccountInUse, InputError, InvalidInput, ProfileTaken
from authapi.storage.application.profile import Profile, key_of, table_of, unique_columns
from authapi.storage.driver_errors import is_reference_violation, sqlstate
from authapi.storage.names import TableNames

Values = Mapping[str, object]
"""The values of a row, by the keys of the columns."""

_UNIQUE = frozenset({"23505", "23P01"})
"""Unique violation and exclusion violation (PostgreSQL, Appendix A)."""
_DETAIL = re.compile(r"\(([^()]+)\)=\(")
"""The columns in the detail of a unique or foreign key violation, in every language."""
_SQLITE_MESSAGE = re.compile(r"(\w+(?: \w+)?) constraint failed(?:: (.*))?")


class ProfileTable:
    """The rows of the profiles, in the transaction of a connection.

    The constructor raises ConfigurationError if the table or a model of `profile` cannot be used.
    Each write raises ProfileTaken if a unique constraint refuses a value, and InvalidInput if
    another constraint or the type of a column does.
    """

    def __init__(self, profile: Profile, names: TableNames) -> None:
        self._key = key_of(profile, names)
        self._table = table_of(profile)
        self._json = {c.key for c in self._table.columns if isinstance(c.type, sa.JSON)}
        own = {frozenset(columns) for columns in unique_columns(self._table)}
        self._unique = [columns for columns in own if self._key not in columns]

    @property
    def has_unique(self) -> bool:
        """Whether values must be unique, besides the account."""
        return bool(self._unique)

    @property
    def json_columns(self) -> Collection[str]:
        """The keys of the columns with a JSON type."""
        return self._json

    async def add(self, connection: AsyncConnection, user_id: UUID, values: Values) -> Values:
        """Inserts the row of an account. Returns it, with the defaults of the database."""
        statement = sa.insert(self._table).values({**values, self._key.key: user_id})
        with self._refusals(values):
            result = await connection.execute(statement.returning(*self._table.columns))
            return self._values(result.one())

    async def change(self, connection: AsyncConnection, user_id: UUID, values: Values) -> None:
        """Changes columns of the row of an account."""
        with self._refusals(values):
            await connection.execute(
                sa.update(self._table).where(self._key == user_id).values(dict(values))
            )

    async def delete(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Deletes the row of an account. Raises AccountInUse if another row refers to it."""
        try:
            await connection.execute(sa.delete(self._table).where(self._key == user_id))
        except IntegrityError as error:
            if is_reference_violation(error):
                raise AccountInUse from None
            raise

    async def find(
        self, connection: AsyncConnection, user_id: UUID, *, lock: bool = False
    ) -> Values | None:
        """Returns the row of an account, or None; with `lock`, locked until the commit."""
        statement = sa.select(*self._table.columns).where(self._key == user_id)
        if lock:
            statement = statement.with_for_update(of=self._table)
        row = (await connection.execute(statement)).one_or_none()
        return None if row is None else self._values(row)

    async def find_all(
        self, connection: AsyncConnection, user_ids: Collection[UUID]
    ) -> Mapping[UUID, Values]:
        """Returns the rows of these accounts."""
        rows = await connection.execute(
            sa.select(*self._table.columns).where(self._key.in_(user_ids))
        )
        found = [self._values(row) for row in rows]
        return {self._owner(values): values for values in found}

    async def check_free(self, connection: AsyncConnection, values: Values) -> None:
        """Checks that no row has one of the `values` that must be unique. Raises ProfileTaken.

        Another transaction may still insert such a row.
        """
        for columns in self._unique:
            wanted = {column: values.get(column.key) for column in columns}
            if None in wanted.values():
                continue
            with self._refusals(values):
                matches = sa.and_(*(column == value for column, value in wanted.items()))
                if await connection.scalar(sa.select(sa.exists().where(matches))):
                    raise _taken(sorted(column.key for column in columns))

    def _owner(self, values: Values) -> UUID:
        owner = values[self._key.key]
        return owner if isinstance(owner, UUID) else UUID(str(owner))

    def _values(self, row: sa.Row[Any]) -> Values:
        return dict(zip(self._table.columns.keys(), row, strict=True))

    @contextmanager
    def _refusals(self, values: Values) -> Iterator[None]:
        """Raises the errors of the database about a value as refusals."""
        try:
            yield
        except IntegrityError as error:
            members = [key for key in self._columns_of(error) if key in values]
            if _is_unique(error):
                raise _taken(members) from None
            raise _invalid(members, "constraint", "is refused by the database") from None
        except (DataError, OverflowError):
            raise _invalid([], "out_of_range", "has a value that cannot be stored") from None
        except StatementError as error:
            # A type of the column refuses the value before it is sent, such as an Enum.
            if isinstance(error.orig, LookupError | OverflowError):
                text = "has a value that cannot be stored"
                raise _invalid([], "out_of_range", text) from None
            raise

    def _columns_of(self, error: IntegrityError) -> Collection[str]:
        """Returns the keys of the columns of the constraint that refused a statement."""
        diagnosis = getattr(error.orig, "diag", None)
        if diagnosis is not None:
            # Also for constraints that PostgreSQL has named.
            detail = _DETAIL.search(diagnosis.message_detail or "")
            columns = {diagnosis.column_name, *(detail[1].split(", ") if detail else ())}
            name = diagnosis.constraint_name
        else:
            found = _SQLITE_MESSAGE.search(str(error.orig))
            name = found[2] if found else None
            # Either "table.a, table.b" or the name of a constraint.
            columns = {part.rpartition(".")[2] for part in (name or "").split(", ")}
        if name is not None:
            columns |= _columns_below(self._table, name)
        return sorted(column.key for column in self._table.columns if column.name in columns)


def _columns_below(table: sa.Table, name: str) -> set[str]:
    """Returns the names of the columns of the constraint or unique index with this name."""
    found = set[str]()
    for constraint in table.constraints:
        if isinstance(constraint, ColumnCollectionConstraint) and constraint.name == name:
            found |= {column.name for column in constraint.columns}
    for column in table.columns:
        # The text of a check does not tell its columns.
        found |= {column.name for constraint in column.constraints if constraint.name == name}
    for index in table.indexes:
        if index.name == name:
            found |= {column.name for column in index.columns}
    return found


def _is_unique(error: IntegrityError) -> bool:
    state = sqlstate(error)
    if state is not None:
        return state in _UNIQUE
    found = _SQLITE_MESSAGE.search(str(error.orig))
    return found is not None and found[1] in {"UNIQUE", "PRIMARY KEY"}


def _taken(members: Collection[str]) -> ProfileTaken:
    return ProfileTaken(*_errors(members, "taken", "is in use by another account"))


def _invalid(members: Collection[str], code: str, message: str) -> InvalidInput:
    return InvalidInput(*_errors(members, code, message))


def _errors(members: Collection[str], code: str, message: str) -> Iterator[InputError]:
    for member in members:
        yield InputError(("body", "profile", member), code, message)
    if not members:
        yield InputError(("body", "profile"), code, message)
