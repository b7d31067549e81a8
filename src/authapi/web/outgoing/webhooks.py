"""Sends webhooks: bounded in time, never redirected, and of the answer only the status is read."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from authapi.services.webhooks import Post
from authapi.settings import Settings
from authapi.web.outgoing.connections import looking_up_alone

if TYPE_CHECKING:
    import httpx


class WebhookPost:
    """Posts over connections of its own; `timeout` is seconds for all of one request."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """In which the client is used: its connections belong to that."""

    def open(self) -> None:
        """Import and read what requests need: else the first request waits for it. Blocks."""
        self._client()

    async def __call__(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. Raises OSError if there is none."""
        import httpx  # noqa: PLC0415  # a tenth of the import of authapi

        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            self._http = None  # of an event loop that is over
        self._loop = loop
        client = self._client()
        try:
            # httpx bounds each step; this bounds all of them together.
            async with (
                asyncio.timeout(self._timeout),
                client.stream("POST", url, content=body, headers=dict(headers)) as response,
            ):
                return response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise OSError(type(error).__name__) from None

    def _client(self) -> "httpx.AsyncClient":
        import httpx  # noqa: PLC0415

        if self._http is None:
            # The outbox bounds the deliveries to each receiver. A bound on all connections
            # together would let receivers that do not answer take those of the others.
            unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            self._http = looking_up_alone(
                httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, limits=unbounded)
            )
        return self._http

    async def close(self) -> None:
        """Close the connections. What is asked after that opens new ones."""
        http, self._http, self._loop = self._http, None, None
        if http is not None:
            await http.aclose()


def webhook_post(settings: Settings) -> Post | None:
    """What sends the webhooks that the settings ask for, or None."""
    return WebhookPost(timeout=settings.mail_timeout) if settings.webhook_urls else None
