"""Runs the migrations on a connection that `authapi.storage.migrations` hands in.

Called by the `alembic` command itself, which hands in none, it takes the database from authapi's
own settings, so that there is one place to configure.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context
from sqlalchemy.types import TypeDecorator

from authapi.settings import load_settings
from authapi.storage.migrations import connected
from authapi.storage.models import metadata


def render_plain_type(kind: str, item: Any, _: Any) -> str | bool:
    """Write our own column types as the plain ones under them, so that migrations stand alone."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def run(connection: sa.Connection) -> None:
    """Migrate in one transaction: a migration that fails leaves nothing behind."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_item=render_plain_type,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        transactional_ddl=True,  # SQLite can too, as `connected` sends its BEGIN
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    run(handed_in)
else:
    with connected(load_settings().resolved_database_url, changes=True) as own:
        run(own)
