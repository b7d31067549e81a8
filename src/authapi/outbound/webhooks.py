"""Sends webhooks. Redirects are not followed, and only the status of the response is read."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from authapi.outbound.isolated_lookups import isolate_lookups
from authapi.services.webhooks import Post
from authapi.settings import Settings

if TYPE_CHECKING:
    import httpx


class WebhookPost:
    """Posts to webhook endpoints. `timeout` limits a whole request, in seconds."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that the connections of the client belong to."""

    def open(self) -> None:
        """Imports httpx and loads the CA certificates, which the first request would wait for.

        Blocks: call it in a thread.
        """
        self._client()

    async def __call__(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """POST `body` to `url` and return the status code.

        Raises OSError if there is no response within the timeout.
        """
        import httpx  # noqa: PLC0415  # a tenth of the import time of authapi

        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            self._http = None  # its connections belong to a closed event loop
        self._loop = loop
        client = self._client()
        try:
            # The timeout of httpx applies to each step; this one to the whole request.
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
            # The outbox limits concurrent deliveries to each endpoint. With a limit on the total,
            # endpoints that do not answer could use up the connections of the others.
            unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            self._http = isolate_lookups(
                httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, limits=unbounded)
            )
        return self._http

    async def close(self) -> None:
        """Closes the connections. Later requests open new ones."""
        http, self._http, self._loop = self._http, None, None
        if http is not None:
            await http.aclose()


def build_webhook_post(settings: Settings) -> Post | None:
    """The sender of webhooks, or None if `webhook_urls` is empty."""
    return WebhookPost(timeout=settings.mail_timeout) if settings.webhook_urls else None
