"""An application on each database, watched."""

from collections.abc import AsyncIterator

import pytest

from authapi import Settings
from tests.hostile.watch import Watch, watching
from tests.storage.emptied import emptied_postgres_url, postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "postgres_url", "shared_postgres_url"]


@pytest.fixture
async def watch(database_url: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Watch]:
    """The shipped application, once on SQLite and once on PostgreSQL."""
    async with watching(Settings(database_url=database_url), caplog) as found:  # type: ignore[arg-type]  # pydantic converts
        yield found


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """Attackers of these tests know the key that services sign with."""
