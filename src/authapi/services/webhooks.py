"""Sends security events to configured URLs, signed as Standard Webhooks.

An event becomes one outbox entry for each URL, in the transaction of the event. The outbox delivers
to each URL independently, as to a receiver of its own. The body contains ids, and neither email
addresses nor names: a service that may read those requests them with a credential of its own.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.events import Event, EventType
from authapi.domain.outbox import OutboxEntry
from authapi.errors import DeliveryFailed
from authapi.services.jobs.outbox import Outbox, Payload
from authapi.settings import Settings
from authapi.storage import Store

KIND = "webhook"
"""The kind of the outbox entries that hold webhooks."""
TEST = "webhook_test"
"""The event type of the webhook that `authapi webhooks test` sends."""

_OPT_IN_TYPES = frozenset({EventType.LOGIN_REFUSED, EventType.ACCESS_REFUSED, EventType.THROTTLED})
"""Event types that unauthenticated clients cause in large numbers: sent only if `webhook_events`
lists them."""
_GONE = 410
"""The endpoint wants no further webhooks (Standard Webhooks): delivery is not retried."""


class Post(Protocol):
    """Sends POST requests."""

    async def __call__(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """Sends `body` to `url`. Returns the status of the response.

        Raises OSError if there is no response; its text contains no part of the request.
        """

    def open(self) -> None:
        """Prepares the client, so that the first request is not slower than the next. Blocks."""

    async def close(self) -> None:
        """Closes the connections."""


class Webhooks:
    """Queues events for the URLs in `webhook_urls`, and delivers them with `post`."""

    def __init__(self, outbox: Outbox, settings: Settings, post: Post | None) -> None:
        self._outbox = outbox
        self._post = post
        self.urls = settings.webhook_urls
        self.receivers: Mapping[str, str] = {_receiver_id(url): url for url in self.urls}
        """The URLs by the receivers of their outbox entries."""
        listed = {EventType(name) for name in settings.webhook_events}
        self._types = listed or set(EventType) - _OPT_IN_TYPES
        secret = settings.webhook_secret
        self._key = b"" if secret is None else _decode_key(secret.get_secret_value())
        if post is not None and self.urls:
            outbox.register(KIND, self.deliver, prepare=post.open)

    async def queue(self, store: Store, event: Event) -> None:
        """Queues `event` for every URL in the transaction of `store`, if its type is enabled.

        Raises ConfigurationError if the secret cannot be read, StorageUnavailable if the database
        does not answer.
        """
        if self.urls and event.type in self._types:
            body = _body(event.type.value, event.at, _data(event))
            for url in self.urls:
                payload = {"url": url, "body": body}
                await self._outbox.enqueue(
                    store, KIND, event.type.value, payload, receiver=_receiver_id(url)
                )

    async def deliver(self, entry: OutboxEntry, payload: Payload) -> None:
        """Sends a queued webhook.

        Raises DeliveryFailed if there is no response or its status is not 2xx. The failure is
        permanent if the URL is no longer configured, or the status is 410.
        """
        if payload["url"] not in self.urls:
            raise DeliveryFailed("the URL is no longer configured", permanent=True)
        status = await self._send(payload["url"], str(entry.id), payload["body"])
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the receiver answered {status}", permanent=status == _GONE)

    async def test(self, url: str) -> int:
        """Sends a test webhook to `url` at once, without the outbox. Returns the status.

        Raises DeliveryFailed if there is no response.
        """
        key = str(new_id())
        return await self._send(url, key, _body(TEST, now(), {"event_id": key}))

    async def close(self) -> None:
        """Closes the connections."""
        if self._post is not None:
            await self._post.close()

    async def _send(self, url: str, key: str, body: str) -> int:
        if self._post is None:
            raise DeliveryFailed("webhooks are not configured")
        at = int(now().timestamp())
        headers = {
            "content-type": "application/json",
            "user-agent": "authapi",
            # The id is the same at each attempt, so that the receiver can drop duplicates. The
            # timestamp is new, so that it can reject a replayed request.
            "webhook-id": key,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._key, key, at, body),
        }
        try:
            return await self._post(url, headers=headers, body=body.encode())
        except OSError as error:
            raise DeliveryFailed(f"the receiver: {error}") from None


def signature(key: bytes, message_id: str, timestamp: int, body: str) -> str:
    """Returns the signature of a webhook: HMAC-SHA256, version 1 of Standard Webhooks.

    Three lines are no reason for a package; the tests ask the package `standardwebhooks`.
    """
    signed = f"{message_id}.{timestamp}.{body}".encode()
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def _decode_key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


def _receiver_id(url: str) -> str:
    # A digest, as the path of a URL may contain a secret of the receiver.
    return hashlib.sha256(url.encode()).hexdigest()


def _body(kind: str, at: datetime, data: Mapping[str, object]) -> str:
    return json.dumps({"type": kind, "timestamp": at.isoformat(), "data": data})


def _data(event: Event) -> Mapping[str, object]:
    return {
        "event_id": str(event.id),
        "outcome": event.outcome,
        "user_id": str(event.user_id) if event.user_id else None,
        "session_id": str(event.session_id) if event.session_id else None,
        "strategy": event.strategy,
        "request_id": event.client.request_id,
    }
