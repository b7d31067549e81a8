"""Services with providers and mail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from authapi.services.hooks import Hooks
from tests.services.federated_people import PROVIDERS
from tests.services.operations import Harness, open_harness


@asynccontextmanager
async def federation(
    url: str, *, hooks: Hooks | None = None, **changes: Any
) -> AsyncIterator[Harness]:
    """Services with providers and mail, without background tasks."""
    chosen = {
        "providers": PROVIDERS,
        "public_url": "https://app.example.com",
        "mail_url": "console:",
        **changes,
    }
    async with open_harness(url, hooks=hooks, **chosen) as harness:
        yield harness
