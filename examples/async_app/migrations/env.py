"""The migrations of the application, which look at no table of authapi."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from async_app.database import engine
from async_app.models import Base
from authapi.orm import include_name, include_object


def migrate(connection: Connection) -> None:
    """Runs the migrations on a connection of the application."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
        include_object=include_object,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connects, migrates and disconnects."""
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
