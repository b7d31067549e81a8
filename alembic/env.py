"""Runs the migrations on the connection of `authapi.storage.migrations`.

The `alembic` command passes no connection: then the database of the service's settings is used, so
that it is configured in one place.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context
from sqlalchemy.types import TypeDecorator

from authapi.settings import load_settings
from authapi.storage.migrations import connect
from authapi.storage.models import metadata


def render_plain_type(kind: str, item: Any, _: Any) -> str | bool:
    """Renders our column types as the underlying SQLAlchemy types, which migrations use."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def run(connection: sa.Connection) -> None:
    """Migrates in one transaction, so that a failed migration is rolled back."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_item=render_plain_type,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        transactional_ddl=True,  # also on SQLite, where `connect` sends BEGIN
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    with connect(load_settings().resolved_database_url, writes=True) as new_connection:
        run(new_connection)
