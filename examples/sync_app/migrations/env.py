"""Runs the migrations of the application. Those of authapi run with `authapi db upgrade`."""

from alembic import context
from sqlmodel import SQLModel

import sync_app.models  # noqa: F401  # its tables belong to the metadata
from authapi.orm import include_name, include_object
from sync_app.database import engine

with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        include_name=include_name,
        include_object=include_object,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()
