"""The database privileges that the service needs, and the `GRANT` for each missing one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from authapi.storage.models import tables_of
from authapi.storage.names import TableNames

_CHANGED = ("SELECT", "INSERT", "UPDATE", "DELETE")
_ANONYMISED = ("ip", "network", "user_agent", "request_id", "detail")
"""The columns of `events` with personal data, which is removed when an account is deleted."""
_FUNCTIONS = (
    "pg_notify(text,text)",
    "hashtextextended(text,bigint)",
    "pg_advisory_xact_lock(bigint)",
    "pg_try_advisory_xact_lock(bigint)",
)
"""PUBLIC has the privilege to execute them by default; an operator may have revoked it."""

_ROLE = sa.text("SELECT quote_ident(current_user)")
_CLOSED_SCHEMAS = sa.text(
    "SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE relname = :table AND nspname = coalesce(:schema, nspname)"
    " AND (CAST(:schema AS text) IS NOT NULL OR to_regclass(:table) IS NULL)"
    " AND NOT has_schema_privilege(n.oid, 'USAGE')"
)
_TABLE = sa.text(
    "SELECT quote_ident(nspname) || '.' || quote_ident(relname), c.oid, row_security_active(c.oid)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE c.oid = to_regclass(CAST(:name AS text))"
)
_ON_TABLE = sa.text("SELECT has_table_privilege(CAST(:table AS oid), :privilege)")
_ON_COLUMN = sa.text("SELECT has_column_privilege(CAST(:table AS oid), :column, :privilege)")
_ON_FUNCTION = sa.text("SELECT has_function_privilege(:name, 'EXECUTE')")


_OWNS = sa.text(
    "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class"
    " WHERE oid = to_regclass(CAST(:name AS text))"
)
"""Only the owner of a table, its members and superusers may alter or drop it."""


@dataclass(frozen=True, slots=True)
class MissingPrivilege:
    """A privilege that the role lacks, or a row-level security policy that applies to it."""

    message: str
    """What is missing, with the name of the table, schema or function."""
    grant: str
    """The SQL statement that an operator has to run."""
    fails_requests: bool = True
    """Whether requests fail without the privilege; otherwise only the cleanup jobs fail."""


def missing_privileges(
    connection: Connection, *, names: TableNames, erases: bool
) -> Sequence[MissingPrivilege]:
    """Returns the privileges that the role of a connection to PostgreSQL lacks.

    The schema must be current. `erases` is True if the events of a deleted account are removed, and
    False if they are anonymized. Raises the errors of SQLAlchemy.
    """
    return list(_PrivilegeCheck(connection, names, erases=erases).all())


def may_change_schema(connection: Connection, *, names: TableNames) -> bool:
    """Returns whether the role of a connection to PostgreSQL may alter and drop the tables.

    Raises the errors of SQLAlchemy.
    """
    return bool(connection.scalar(_OWNS, {"name": names.place(names.table("users"))}))


class _PrivilegeCheck:
    def __init__(self, connection: Connection, names: TableNames, *, erases: bool) -> None:
        self._connection, self._names = connection, names
        self._tables, self._events = tables_of(names), names.table("events")
        self._role = connection.scalar(_ROLE)
        self._erases = erases

    def all(self) -> Iterator[MissingPrivilege]:
        place = {"table": self._names.version, "schema": self._names.schema}
        for schema in self._connection.scalars(_CLOSED_SCHEMAS, place).all():
            yield self._missing("use", f"USAGE ON SCHEMA {schema}", f"the schema {schema}")
        read_only = {self._names.version: _CHANGED[:1], self._events: _CHANGED[:2]}
        tables = (table.name for table in self._tables.metadata.tables.values())
        for name in (self._names.version, *tables):
            yield from self._on_table(name, read_only.get(name, _CHANGED))
        for function in _FUNCTIONS:
            if not self._has(_ON_FUNCTION, name=function):
                yield self._missing("call", f"EXECUTE ON FUNCTION {function}", function)

    def _on_table(self, name: str, privileges: Sequence[str]) -> Iterator[MissingPrivilege]:
        row = self._connection.execute(_TABLE, {"name": self._names.place(name)}).one_or_none()
        if row is None:
            return  # the schema check reports a missing table
        quoted, table, hides_rows = row
        if hides_rows:
            yield MissingPrivilege(
                f"row-level security hides rows of {quoted} from the role {self._role}",
                f"ALTER TABLE {quoted} DISABLE ROW LEVEL SECURITY",
            )
        missing = [
            privilege
            for privilege in privileges
            if not self._has(_ON_TABLE, table=table, privilege=privilege)
        ]
        if missing:
            yield self._missing(_listed(missing), f"{', '.join(missing)} ON {quoted}", name)
        if name == self._events:
            yield from self._on_events(quoted, table)

    def _on_events(self, quoted: str, table: int) -> Iterator[MissingPrivilege]:
        if not self._has(_ON_TABLE, table=table, privilege="DELETE"):
            grant = f"DELETE ON {quoted}"
            yield self._missing("DELETE", grant, self._events, fails_requests=self._erases)
        if self._erases:
            return
        columns = [
            column
            for column in _ANONYMISED
            if not self._has(_ON_COLUMN, table=table, column=column, privilege="UPDATE")
        ]
        if columns:
            names = ", ".join(columns)
            yield self._missing(
                "UPDATE", f"UPDATE ({names}) ON {quoted}", f"{names} of {self._events}"
            )

    def _has(self, query: sa.TextClause, **values: object) -> bool:
        return bool(self._connection.scalar(query, values))

    def _missing(
        self, verb: str, grant: str, object_: str, *, fails_requests: bool = True
    ) -> MissingPrivilege:
        return MissingPrivilege(
            f"the role {self._role} may not {verb} {object_}",
            f"GRANT {grant} TO {self._role}",
            fails_requests,
        )


def _listed(privileges: Sequence[str]) -> str:
    *others, last = privileges
    return f"{', '.join(others)} or {last}" if others else last
