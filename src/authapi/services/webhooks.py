"""Other services hear of events: signed (Standard Webhooks), from the outbox, at configured URLs.

One entry of the outbox for each URL, in the transaction of the event: each URL is a receiver of its
own there. What is sent names ids, never an address or a name: a service that may know more asks us
with a credential of its own.
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
from authapi.errors import DeliveryFailed
from authapi.identity import Event, EventType
from authapi.services.background.outbox import Outbox, Payload
from authapi.settings import Settings
from authapi.storage import Store
from authapi.storage.tables.outbox import Entry

KIND = "webhook"
"""Of entries in the outbox."""
TEST = "webhook_test"
"""The type of what `authapi webhooks test` sends."""

_FLOODS = frozenset({EventType.LOGIN_REFUSED, EventType.ACCESS_REFUSED, EventType.THROTTLED})
"""What strangers cause, as much of it as they want: sent only if the settings name it."""
_GONE = 410


class Post(Protocol):
    """Sends a request with a body."""

    async def __call__(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. Raises OSError, whose text names nothing, if there is none."""

    def open(self) -> None:
        """Get ready, so that the first request takes no longer than the next. Blocks."""

    async def close(self) -> None:
        """Let go of what it keeps open."""


class Webhooks:
    """Queues events for the URLs of the settings, and delivers them by `post`."""

    def __init__(self, outbox: Outbox, settings: Settings, post: Post | None) -> None:
        self._outbox = outbox
        self._post = post
        self.urls = settings.webhook_urls
        named = {EventType(name) for name in settings.webhook_events}
        self._types = named or set(EventType) - _FLOODS
        secret = settings.webhook_secret
        self._key = b"" if secret is None else _key_of(secret.get_secret_value())
        if post is not None and self.urls:
            outbox.on(KIND, self.deliver, ready=post.open)

    async def queue(self, store: Store, event: Event) -> None:
        """Tell every URL of `event`, once `store` is committed."""
        if self.urls and event.type in self._types:
            body = _body(event.type.value, event.at, _data(event))
            for url in self.urls:
                payload = {"url": url, "body": body}
                await self._outbox.put(
                    store, KIND, event.type.value, payload, receiver=_receiver_of(url)
                )

    async def deliver(self, entry: Entry, payload: Payload) -> None:
        """Send what was queued. Raises DeliveryFailed."""
        if payload["url"] not in self.urls:
            raise DeliveryFailed("its URL is not configured any more", permanent=True)
        status = await self._send(payload["url"], str(entry.id), payload["body"])
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the receiver answered {status}", permanent=status == _GONE)

    async def test(self, url: str) -> int:
        """Send a test to `url`, now and without the outbox; the status of the answer.

        Raises DeliveryFailed if there is none.
        """
        key = str(new_id())
        return await self._send(url, key, _body(TEST, now(), {"event_id": key}))

    async def close(self) -> None:
        """Let go of connections."""
        if self._post is not None:
            await self._post.close()

    async def _send(self, url: str, key: str, body: str) -> int:
        if self._post is None:
            raise DeliveryFailed("nothing here sends requests")
        at = int(now().timestamp())
        headers = {
            "content-type": "application/json",
            "user-agent": "authapi",
            # The same for each delivery of one entry; the time is that of this one, so that a
            # receiver can refuse what somebody has recorded.
            "webhook-id": key,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._key, key, at, body),
        }
        try:
            return await self._post(url, headers=headers, body=body.encode())
        except OSError as error:
            raise DeliveryFailed(f"the receiver: {error}") from None


def signature(key: bytes, message_id: str, timestamp: int, body: str) -> str:
    """What proves that we wrote `body`, in the words of Standard Webhooks, version 1."""
    signed = f"{message_id}.{timestamp}.{body}".encode()
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def _key_of(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


def _receiver_of(url: str) -> str:
    # A digest: the path of a URL may be a secret of the receiver.
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
