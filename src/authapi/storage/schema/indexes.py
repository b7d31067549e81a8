"""Indexes on tables that have rows, for the migrations."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from authapi.storage.names import TableNames

_PATIENCE = 300
"""Seconds that a build waits for each transaction that began before it, such as a dump. No
statement of a service waits behind it."""

_IS_VALID = sa.text(
    "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " WHERE i.indrelid = to_regclass(:table) AND c.relname = :index"
)


def is_repeatable() -> bool:
    """Returns whether the migration may run again after a part of it was committed.

    What comes before `build_index` in a migration passes this as `if_not_exists`.
    """
    context = op.get_context()
    return context.dialect.name == "postgresql" and not context.opts["is_atomic"]


def build_index(
    name: str, table: str, columns: Sequence[str], *, unique: bool = False, where: str | None = None
) -> None:
    """Creates an index on a table of an earlier migration, while a service writes to the table.

    On PostgreSQL it is built `CONCURRENTLY`, outside of the transaction of the migration: what the
    migration has done before is committed first, and has to be repeatable. An index that an
    interrupted build has left is dropped and built again; a complete one is kept. On SQLite, and in
    a database whose tables are created in the same transaction, it is a plain index.
    """
    names: TableNames = op.get_context().opts["table_names"]
    condition = None if where is None else sa.text(where)

    def create(*, concurrently: bool) -> None:
        op.create_index(
            name,
            table,
            columns,
            schema=names.schema,
            unique=unique,
            sqlite_where=condition,
            postgresql_where=condition,
            postgresql_concurrently=concurrently,
        )

    if not is_repeatable():
        create(concurrently=False)
        return
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        before = connection.exec_driver_sql("SHOW lock_timeout").scalar_one()
        connection.exec_driver_sql(f"SET lock_timeout = '{_PATIENCE}s'")
        place = names.place(connection.dialect.identifier_preparer.quote(table))
        is_valid = connection.scalar(_IS_VALID, {"table": place, "index": name})
        if is_valid is False:
            op.drop_index(name, table, schema=names.schema, postgresql_concurrently=True)
        if not is_valid:
            create(concurrently=True)
        connection.exec_driver_sql(f"SET lock_timeout = '{before}'")
