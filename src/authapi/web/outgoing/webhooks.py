"""Sends webhooks: bounded in time, never redirected, and of the answer only the status is read."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from authapi.services.webhooks import Post
from authapi.settings import Settings

if TYPE_CHECKING:
    import httpx


class WebhookPost:
    """Posts over connections of its own; `timeout` is seconds for all of one request."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._http: httpx.AsyncClient | None = None

    async def __call__(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. Raises OSError if there is none."""
        import httpx  # noqa: PLC0415  # a tenth of the import of authapi

        if self._http is None:
            # Not before it is asked: it belongs to the event loop that runs now.
            self._http = httpx.AsyncClient(timeout=self._timeout, follow_redirects=False)
        try:
            # httpx bounds each step; this bounds all of them together.
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream("POST", url, content=body, headers=dict(headers)) as response,
            ):
                return response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise OSError(type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections. What is asked after that opens new ones."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None


def webhook_post(settings: Settings) -> Post | None:
    """What sends the webhooks that the settings ask for, or None."""
    return WebhookPost(timeout=settings.mail_timeout) if settings.webhook_urls else None
