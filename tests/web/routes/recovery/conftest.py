"""A client whose mail can be read, on each database."""

from collections.abc import AsyncIterator

import pytest

from authapi import Settings
from authapi.testing import Client
from tests.web.mailbox import client_with_mailbox


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """On SQLite and on PostgreSQL, with default settings but for limits on mail."""
    settings = Settings(database_url=database_url, limit_mails="1000/hour")  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as found:
        yield found
