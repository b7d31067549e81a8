"""A client with a mailbox, on each database."""

from collections.abc import AsyncIterator

import pytest

from authapi import Settings
from authapi.testing import Client
from tests.web.mailbox import client_with_mailbox


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """The service on SQLite and on PostgreSQL, with default settings except the limits on mail."""
    settings = Settings(database_url=database_url, limit_mails="1000/hour")  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as found:
        yield found
