"""Fixtures of the storage tests."""

from collections.abc import AsyncIterator

import pytest

from authapi.storage import Database
from tests.servers.process import free_port
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "shared_postgres_url"]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database, on SQLite and on PostgreSQL."""
    found = Database(database_url)
    yield found
    await found.close()


@pytest.fixture
def free_address() -> str:
    """Host and port without a server."""
    return f"127.0.0.1:{free_port()}"
