"""Services without background tasks, with accounts of each kind, on each database."""

from collections.abc import AsyncIterator

import pytest

from tests.services.operations import Harness, open_harness


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(database_url) as found:
        yield found
