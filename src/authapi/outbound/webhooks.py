"""Sends webhooks. Only the status of the response is read."""

from collections.abc import Mapping
from datetime import timedelta

from authapi.outbound.http_client import HTTPClient
from authapi.settings import Settings


class WebhookPost:
    """Posts to webhook endpoints. `timeout` limits a whole request, in seconds."""

    def __init__(self, *, timeout: float) -> None:
        # The outbox limits concurrent deliveries to each endpoint. With a limit on the total,
        # endpoints that do not answer could use up the connections of the others.
        self._client = HTTPClient(
            timeout=timedelta(seconds=timeout), max_connections=None, accept="*/*"
        )

    def open(self) -> None:
        """Imports httpx and loads the CA certificates, which the first request would wait for.

        Blocks: call it in a thread.
        """
        self._client.open()

    async def __call__(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """POST `body` to `url` and return the status code.

        Raises OSError if there is no response within the timeout.
        """
        return await self._client.post_bytes(url, body, headers=headers)

    async def close(self) -> None:
        """Closes the connections. Later requests open new ones."""
        await self._client.close()


def build_webhook_post(settings: Settings) -> WebhookPost | None:
    """The sender of webhooks, or None if `webhook_urls` is empty."""
    return WebhookPost(timeout=settings.mail_timeout) if settings.webhook_urls else None
