"""What an upgrade finds in the database before the first migration.

The schema may have to be created, and our names may be taken. Versions of authapi before the table
prefix called their tables `users`, `sessions` and so on, and kept the revision in
`alembic_version`. Such tables are renamed, with their indexes and constraints.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from authapi.errors import ConfigurationError
from authapi.storage.models import tables_of
from authapi.storage.names import TableNames

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_VERSIONS, _LAST = "alembic_version", "0009"
"""The former table of the revision, and the last revision of that time."""
_EARLIER = frozenset(f"{number:04}" for number in range(1, 9))

_COLUMNS: Mapping[str, str] = {
    "users": "id email email_given name password_hash is_active is_superuser email_confirmed_at"
    " created_at updated_at locale roles password_version",
    "sessions": "id user_id kind secret_hash name scopes created_at last_seen_at idle_expires_at"
    " expires_at auth_time amr ip user_agent data remembered previous_secret_hash revoked_jwts",
    "events": "id at type outcome user_id session_id strategy request_id ip user_agent detail"
    " network actor_id",
    "signing_keys": "kid algorithm state public_jwk private_key created_at activated_at retired_at"
    " published_until",
    "refresh_families": "session_id family_hash current_hash previous_hash nonce rotated_at",
    "email_tokens": "id user_id purpose secret_hash email email_given password_version created_at"
    " expires_at",
    "outbox": "id kind purpose user_id payload created_at due_at expires_at attempts error"
    " failed_at receiver",
}
"""The tables at that revision with their columns, in an order that foreign keys allow."""
_CONSTRAINTS: Mapping[str, str] = {
    "users": "pk_users uq_users_email",
    "sessions": "pk_sessions uq_sessions_secret_hash fk_sessions_user_id_users",
    "events": "pk_events",
    "signing_keys": "pk_signing_keys",
    "refresh_families": "pk_refresh_families uq_refresh_families_family_hash"
    " fk_refresh_families_session_id_sessions",
    "email_tokens": "pk_email_tokens uq_email_tokens_secret_hash fk_email_tokens_user_id_users",
    "outbox": "pk_outbox fk_outbox_user_id_users",
}
_INDEXES: Mapping[str, str] = {
    "users": "ix_users_created_at_id",
    "sessions": "ix_sessions_user_id ix_sessions_expires_at ix_sessions_previous_secret_hash",
    "events": "ix_events_user_id_id ix_events_user_id_type_network_id",
    "signing_keys": "",
    "refresh_families": "",
    "email_tokens": "ix_email_tokens_user_id ix_email_tokens_email ix_email_tokens_expires_at",
    "outbox": "ix_outbox_user_id ix_outbox_kind_failed_at_receiver_due_at_id",
}


def require_schema(connection: Connection, names: TableNames) -> None:
    """Creates the schema of `names` unless it exists."""
    # Not CREATE SCHEMA IF NOT EXISTS, which needs the privilege even if the schema exists.
    if names.schema is not None and not sa.inspect(connection).has_schema(names.schema):
        connection.execute(sa.schema.CreateSchema(names.schema))


def require_version_table(connection: Connection, names: TableNames) -> bool:
    """Returns whether there is a table of the revision.

    Raises ConfigurationError if it has other columns: it is that of an application.
    """
    inspector = sa.inspect(connection)
    if not inspector.has_table(names.version, schema=names.schema):
        return False
    columns = inspector.get_columns(names.version, schema=names.schema)
    if _names(columns) != {"version_num"}:
        raise _taken([names.version])
    return True


def require_free_names(connection: Connection, names: TableNames) -> None:
    """Checks that no table has one of our names, before the first migration.

    Raises ConfigurationError if one has: another application created it.
    """
    inspector = sa.inspect(connection)
    ours = [table.name for table in tables_of(names).metadata.sorted_tables]
    taken = [name for name in ours if inspector.has_table(name, schema=names.schema)]
    if taken:
        raise _taken(taken)


def adopt(connection: Connection, names: TableNames, scripts: "ScriptDirectory") -> bool:
    """Renames the tables of a version without prefixes to `names`, if there are any.

    Returns whether it did. It does so only if `alembic_version` holds a revision of ours and all
    our tables of that revision are there; the tables of other applications stay as they are. The
    revision moves to the new table, and `alembic_version` is dropped if it is empty then.

    Raises ConfigurationError if one of the new names is taken, or if the revision is older than the
    last one of that time.
    """
    place = next(iter(_places(connection, names)), None)
    if place is None:
        return False
    schema, revision = place
    if revision != _LAST:
        raise ConfigurationError(
            f"the tables of authapi are at the former revision {revision}: upgrade them to {_LAST}"
            " with the version that created them, then with this one"
        )
    require_free_names(connection, names)
    rename = _rename_on_sqlite if connection.dialect.name == "sqlite" else _rename_on_postgresql
    rename(connection, names, schema)
    versions = sa.table(_VERSIONS, sa.column("version_num"), schema=schema)
    connection.execute(sa.delete(versions).where(versions.c.version_num == revision))
    if not connection.scalar(sa.select(sa.func.count()).select_from(versions)):
        connection.execute(sa.schema.DropTable(sa.Table(_VERSIONS, sa.MetaData(), schema=schema)))
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415  # as in `migrations`

    options = {"version_table": names.version, "version_table_schema": names.schema}
    context = MigrationContext.configure(connection, opts=options)
    context.stamp(scripts, scripts.get_base() or "")
    return True


def _places(connection: Connection, names: TableNames) -> Iterator[tuple[str | None, str]]:
    """Yields each schema with tables of such a version, and their revision."""
    inspector = sa.inspect(connection)
    for schema in dict.fromkeys((names.schema, None)):
        if not inspector.has_table(_VERSIONS, schema=schema):
            continue
        found = {
            table: {column["name"] for column in inspector.get_columns(table, schema=schema)}
            for table in _COLUMNS
            if inspector.has_table(table, schema=schema)
        }
        if "version_num" not in _names(inspector.get_columns(_VERSIONS, schema=schema)):
            continue
        versions = sa.table(_VERSIONS, sa.column("version_num"), schema=schema)
        revisions = set(connection.scalars(sa.select(versions.c.version_num)))
        if _LAST in revisions and found == {t: set(c.split()) for t, c in _COLUMNS.items()}:
            yield schema, _LAST
        elif (earlier := revisions & _EARLIER) and "email_given" in found.get("users", ()):
            yield schema, max(earlier)


def _names(columns: Sequence[Mapping[str, object]]) -> set[object]:
    return {column["name"] for column in columns}


def _new_name(name: str, table: str, names: TableNames) -> str:
    """Returns the new name of a constraint or index of `table`."""
    kind = name[:2]
    rest = name.removeprefix(f"{kind}_{table}")
    if kind == "fk":  # formerly with the table that it refers to
        rest = rest.rpartition("_")[0]
    return f"{kind}_{names.table(table)}{rest}"


def _rename_on_postgresql(connection: Connection, names: TableNames, schema: str | None) -> None:
    quote = connection.dialect.identifier_preparer.quote
    place = "" if schema is None else f"{quote(schema)}."
    for table in _COLUMNS:
        new = names.table(table)
        connection.exec_driver_sql(f"ALTER TABLE {place}{table} RENAME TO {new}")
        for name in _CONSTRAINTS[table].split():
            connection.exec_driver_sql(
                f"ALTER TABLE {place}{new} RENAME CONSTRAINT {name}"
                f" TO {_new_name(name, table, names)}"
            )
        for name in _INDEXES[table].split():
            connection.exec_driver_sql(
                f"ALTER INDEX {place}{name} RENAME TO {_new_name(name, table, names)}"
            )
        if names.schema != schema and names.schema is not None:
            connection.exec_driver_sql(f"ALTER TABLE {place}{new} SET SCHEMA {quote(names.schema)}")


def _rename_on_sqlite(connection: Connection, names: TableNames, _: str | None) -> None:
    # SQLite renames a table with every reference to it, but cannot rename a constraint: each table
    # is copied to one with the new constraints (SQLite, ALTER TABLE, section 7). Foreign keys are
    # not enforced on this connection, so that no row is deleted with the old table.
    for table in _COLUMNS:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {names.table(table)}")
    # Otherwise renaming a copy would fail for views of other tables on the dropped table.
    connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    for table in _COLUMNS:
        _copy_on_sqlite(connection, names, table)
    connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")


def _copy_on_sqlite(connection: Connection, names: TableNames, table: str) -> None:
    name, copy = names.table(table), f"{names.prefix}copy_of_{table}"
    master = connection.exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL", (name,)
    )
    entries = master.all()
    old = {
        constraint: _new_name(constraint, table, names)
        for constraint in f"{_CONSTRAINTS[table]} {_INDEXES[table]}".split()
    }
    pattern = re.compile(rf"\b({'|'.join(old)})\b")

    def renamed(sql: str) -> str:
        return pattern.sub(lambda match: old[match[1]], sql)

    create = next(renamed(sql) for kind, _, sql in entries if kind == "table")
    _, parenthesis, definition = create.partition("(")
    connection.exec_driver_sql(f"CREATE TABLE {copy} {parenthesis}{definition}")
    columns = ", ".join(f'"{column}"' for column in _COLUMNS[table].split())
    connection.exec_driver_sql(f"INSERT INTO {copy} ({columns}) SELECT {columns} FROM {name}")  # noqa: S608  # our names
    connection.exec_driver_sql(f"DROP TABLE {name}")
    connection.exec_driver_sql(f"ALTER TABLE {copy} RENAME TO {name}")
    # With the table, SQLite drops its indexes and triggers, also those of an application.
    for kind, _, sql in entries:
        if kind != "table":
            connection.exec_driver_sql(renamed(sql))


def _taken(tables: Sequence[str]) -> ConfigurationError:
    kind = "a table" if len(tables) == 1 else "tables"
    return ConfigurationError(
        f"the database already has {kind} {', '.join(tables)}, which authapi did not create:"
        " choose another AUTHAPI_TABLE_PREFIX"
    )
