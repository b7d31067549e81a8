"""A superuser at the console, on each database."""

from collections.abc import AsyncIterator

import pytest

from tests.web.routes.pages.console.scene import Scene, console, console_settings


@pytest.fixture
async def scene(database_url: str) -> AsyncIterator[Scene]:
    async with console(console_settings(database_url)) as found:
        yield found
