"""An application on each database, watched."""

from collections.abc import AsyncIterator

import pytest

from authapi import Settings
from tests.hostile.watch import Watch, watching


@pytest.fixture
async def watch(database_url: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Watch]:
    """The shipped application, once on SQLite and once on PostgreSQL."""
    async with watching(Settings(database_url=database_url), caplog) as found:  # type: ignore[arg-type]  # pydantic converts
        yield found


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """Attackers of these tests know the key that services sign with."""
