"""Applications with a table of their own beside those of authapi, and engines of theirs."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from authapi import AuthAPI, Settings
from tests.facade.notes import create_notes, driver_url


@pytest.fixture
def auth(database_url: str) -> AuthAPI:
    """An AuthAPI that is not started, once on SQLite and once on PostgreSQL."""
    create_notes(database_url)
    return AuthAPI(Settings(database_url=database_url))  # type: ignore[arg-type]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of the application, with the options that an application may have."""
    create_notes(database_url)
    found = create_async_engine(driver_url(database_url, "async"), pool_size=2)
    async with found.begin() as connection:
        if database_url.startswith("sqlite"):
            await connection.execute(sa.text("PRAGMA busy_timeout"))
    yield found
    await found.dispose()
