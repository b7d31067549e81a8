"""A checked application on each database."""

from collections.abc import AsyncIterator

import pytest

from authapi import Settings
from tests.hostile.checked_app import CheckedApp, open_checked_app
from tests.storage.emptied import emptied_postgres_url, postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "postgres_url", "shared_postgres_url"]


@pytest.fixture
async def app(database_url: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[CheckedApp]:
    """The service on SQLite and on PostgreSQL."""
    async with open_checked_app(Settings(database_url=database_url), caplog) as found:  # type: ignore[arg-type]  # pydantic converts
        yield found


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """All services of these tests sign with the same key, so that tests can forge tokens."""
