"""Runs the migrations on the connection of `authapi.storage.migrations`.

The `alembic` command passes no connection: then the database and the names of the service's
settings are used, so that they are configured in one place.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context
from sqlalchemy.types import TypeDecorator

from authapi.settings import load_settings
from authapi.storage.migrations import connect
from authapi.storage.models import tables_of
from authapi.storage.names import TableNames
from authapi.storage.schema.filters import OwnNames


def render_plain_type(kind: str, item: Any, _: Any) -> str | bool:
    """Renders our column types as the underlying SQLAlchemy types, which migrations use."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def run(connection: sa.Connection, names: TableNames) -> None:
    """Migrates in a transaction, so that a failed migration is rolled back.

    On PostgreSQL with tables, each migration has its own: see `migrations.upgrade`.
    """
    is_atomic = context.config.attributes.get("is_atomic", False)
    context.configure(
        connection=connection,
        target_metadata=tables_of(names).metadata,
        version_table=names.version,
        version_table_schema=names.schema,
        include_schemas=names.schema is not None,
        include_name=OwnNames(names).include_name,
        table_names=names,  # the migrations read it
        is_atomic=is_atomic,  # and this
        render_item=render_plain_type,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        on_version_apply=context.config.attributes.get("on_version_apply", ()),
        transactional_ddl=True,  # also on SQLite, where `connect` sends BEGIN
        transaction_per_migration=connection.dialect.name == "postgresql" and not is_atomic,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


attributes = context.config.attributes
if "connection" in attributes:
    run(attributes["connection"], attributes["table_names"])
else:
    settings = load_settings()
    with connect(settings.resolved_direct_url, writes=True) as new_connection:
        run(new_connection, TableNames.of(settings))
