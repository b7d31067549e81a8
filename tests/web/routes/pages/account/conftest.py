"""A person who is signed in by the page, on each database."""

from collections.abc import AsyncIterator

import pytest

from authapi import Settings, create_app
from authapi.testing import Client, client
from tests.web.routes.pages.people import ALICE, sign_in_by_page


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        await found.create_user(ALICE)
        await sign_in_by_page(found)
        yield found
