"""A browser of a service with two providers."""

from collections.abc import AsyncIterator

import pytest

from tests.web.federation.visits import Visitor, settings_with_providers, visiting


@pytest.fixture
async def visitor(sqlite_url: str) -> AsyncIterator[Visitor]:
    async with visiting(settings_with_providers(sqlite_url, registration="open")) as found:
        yield found


@pytest.fixture
async def visitor_on_each(database_url: str) -> AsyncIterator[Visitor]:
    async with visiting(settings_with_providers(database_url, registration="open")) as found:
        yield found
