"""Fixtures with started services, without HTTP."""

from collections.abc import AsyncIterator

import pytest

from authapi.services import Services
from authapi.settings import Settings
from tests.storage.emptied import emptied_postgres_url, postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "postgres_url", "shared_postgres_url"]


@pytest.fixture
async def services(sqlite_url: str) -> AsyncIterator[Services]:
    """Started services on SQLite."""
    found = Services.build(Settings(database_url=sqlite_url))  # type: ignore[arg-type]
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def services_on_each(database_url: str) -> AsyncIterator[Services]:
    """Started services, once on SQLite and once on PostgreSQL."""
    found = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]
    await found.start()
    yield found
    await found.stop()
