"""Webhooks: signatures, the outbox, retries, and delivery to configured URLs only."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from standardwebhooks import Webhook, WebhookVerificationError

from authapi import create_app
from authapi.domain.events import EventType
from authapi.errors import ConfigurationError
from authapi.settings import Settings, load_settings
from authapi.testing import PASSWORD, Client, client
from tests.servers.webhooks import SECRET, Receiver
from tests.storage.rows import sql

NEW = "another horse battery staple"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@asynccontextmanager
async def served(url: str, *receivers: Receiver, **changes: Any) -> AsyncIterator[Client]:
    urls = tuple(found.url for found in receivers)
    defaults: dict[str, Any] = {"webhook_urls": urls, "webhook_secret": SECRET, "mail_timeout": 5}
    settings = Settings(database_url=url, **(defaults | changes))  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        yield api


def types(receiver: Receiver) -> list[str]:
    return [found.document["type"] for found in receiver.received]


async def later(api: Client, **span: float) -> None:
    """Run the deliveries that are due after this time."""
    with time_machine.travel(datetime.now(UTC) + timedelta(**span), tick=True):
        await api.services.outbox.drain()


async def test_an_event_is_signed_and_contains_no_personal_data(
    receiver: Receiver, database_url: str
) -> None:
    async with served(database_url, receiver) as api:
        alice = await api.create_user("alice@example.com", name="Alice Liddell")
        await api.services.outbox.drain()
        answer = await api.login(alice)
        await api.services.outbox.drain()
    assert types(receiver) == ["account_registered", "login"]
    assert all(found.is_signed for found in receiver.received)
    login = receiver.received[1]
    assert login.path == "/hooks"
    assert login.headers["content-type"] == "application/json"
    assert abs(int(login.headers["webhook-timestamp"]) - time.time()) < 60
    data = login.document["data"]
    assert login.document.keys() == {"type", "timestamp", "data"}
    assert datetime.fromisoformat(login.document["timestamp"]).tzinfo is not None
    ((session_id,),) = sql(
        database_url, "SELECT session_id FROM authapi_events WHERE type = 'login'"
    )
    assert data["session_id"].replace("-", "") == str(session_id).replace("-", "")
    assert data["user_id"] == str(alice.id)
    assert data["outcome"] == "success"
    assert data["strategy"] == "session"
    assert data["request_id"] == answer.headers["x-request-id"]
    assert data.keys() == {
        *("event_id", "outcome", "user_id", "session_id", "strategy", "request_id")
    }
    for found in receiver.received:
        for word in (b"alice", b"Liddell", PASSWORD.encode(), b"127.0.0.1"):
            assert word not in found.body
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]


async def test_the_library_of_standard_webhooks_accepts_an_event(
    receiver: Receiver, sqlite_url: str
) -> None:
    async with served(sqlite_url, receiver) as api:
        await api.create_user("alice@example.com")
        await api.services.outbox.drain()
    [found] = receiver.received
    webhook = Webhook(SECRET)
    assert webhook.verify(found.body, found.headers) == found.document
    with pytest.raises(WebhookVerificationError):
        webhook.verify(found.body + b" ", found.headers)


async def test_a_modified_body_has_an_invalid_signature(
    receiver: Receiver, sqlite_url: str
) -> None:
    async with served(sqlite_url, receiver) as api:
        await api.create_user()
        await api.services.outbox.drain()
    (found,) = receiver.received
    assert found.is_signed
    found.body = found.body.replace(b"account", b"Account")
    assert not found.is_signed


async def test_a_rolled_back_event_is_not_sent(
    receiver: Receiver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(database_url, receiver) as api:
        alice = await api.create_user()
        await api.services.outbox.drain()

        async def fails(*_: object, **__: object) -> None:
            raise OSError("at the last moment")

        monkeypatch.setattr(api.services.database.notifications, "notify", fails)
        with pytest.raises(OSError, match="last moment"):
            await api.services.accounts.passwords.set(alice.id, NEW)
        await api.services.outbox.drain()
    assert types(receiver) == ["account_registered"]


async def test_deleting_an_account_sends_an_event(receiver: Receiver, database_url: str) -> None:
    async with served(database_url, receiver) as api:
        alice = await api.create_user()
        await api.services.accounts.deletion.delete(alice.id)
        await api.services.outbox.drain()
    assert sorted(types(receiver)) == ["account_deleted", "account_registered"]
    assert {found.document["data"]["user_id"] for found in receiver.received} == {str(alice.id)}


async def test_an_unavailable_receiver_gets_all_events_and_delays_no_other(
    receiver: Receiver, database_url: str
) -> None:
    with Receiver() as other:
        receiver.stop()
        async with served(database_url, receiver, other) as api:
            await api.create_user()
            await api.services.outbox.drain()
            assert types(other) == ["account_registered"]
            assert sql(database_url, "SELECT error FROM authapi_outbox") == [
                ("the receiver: ConnectError",)
            ]
            receiver.start()
            await later(api, minutes=1)
        assert types(receiver) == ["account_registered"]
        assert types(other) == ["account_registered"], "each event is delivered once"
        assert receiver.received[0].headers["webhook-id"] != other.received[0].headers["webhook-id"]
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]


@pytest.mark.parametrize("status", [500, 503, 429, 400, 301])
async def test_a_retry_has_the_same_id(receiver: Receiver, sqlite_url: str, status: int) -> None:
    receiver.status, receiver.location = status, receiver.url + "/elsewhere"
    async with served(sqlite_url, receiver) as api:
        await api.create_user()
        await api.services.outbox.drain()
        assert sql(sqlite_url, "SELECT error, failed_at FROM authapi_outbox") == [
            (f"the receiver answered {status}", None)
        ]
        receiver.status = 200
        await later(api, seconds=30)
        assert sql(sqlite_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]
    first, second = receiver.received
    assert {found.path for found in receiver.received} == {"/hooks"}, "no redirect is followed"
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    assert first.is_signed
    assert second.is_signed


async def test_status_410_ends_deliveries(receiver: Receiver, sqlite_url: str) -> None:
    receiver.status = 410
    async with served(sqlite_url, receiver) as api:
        await api.create_user()
        await api.services.outbox.drain()
        await later(api, hours=1)
    assert len(receiver.received) == 1
    rows = sql(sqlite_url, "SELECT error FROM authapi_outbox WHERE failed_at IS NOT NULL")
    assert rows == [("the receiver answered 410",)]


async def test_requests_do_not_wait_for_a_slow_receiver(
    receiver: Receiver, database_url: str
) -> None:
    receiver.released.clear()
    async with served(database_url, receiver, mail_timeout=60) as api:
        async with asyncio.timeout(30):
            await api.login(await api.create_user())
        receiver.released.set()
        await api.services.outbox.drain()
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]


async def test_deliveries_to_a_slow_receiver_are_tried_again(
    receiver: Receiver, database_url: str
) -> None:
    receiver.released.clear()
    async with served(database_url, receiver, mail_timeout=0.5) as api:
        await api.login(await api.create_user())
        await api.services.outbox.drain()
        errors = {row[0] for row in sql(database_url, "SELECT error FROM authapi_outbox")}
        assert errors <= {"the receiver: TimeoutError", "the receiver: ReadTimeout"}
        assert len(sql(database_url, "SELECT id FROM authapi_outbox")) == 2
        receiver.released.set()
        await later(api, minutes=1)
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]


async def test_a_removed_url_receives_nothing(receiver: Receiver, sqlite_url: str) -> None:
    receiver.stop()
    async with served(sqlite_url, receiver) as api:
        await api.create_user()
        await api.services.outbox.drain()
    receiver.start()
    with Receiver() as other:
        async with served(sqlite_url, other) as api:
            await later(api, minutes=1)
    assert receiver.received == other.received == []
    assert sql(sqlite_url, "SELECT error FROM authapi_outbox WHERE failed_at IS NOT NULL") == [
        ("the URL is no longer configured",)
    ]


async def test_events_of_unauthenticated_callers_are_sent_only_if_configured(
    receiver: Receiver, sqlite_url: str
) -> None:
    async def wrong(api: Client) -> None:
        body = {"email": "alice@example.com", "password": "wrong horse battery"}
        assert (await api.post("/login", json=body)).status_code == 401
        await api.services.outbox.drain()

    async with served(sqlite_url, receiver) as api:
        await api.create_user("alice@example.com")
        await wrong(api)
    assert types(receiver) == ["account_registered"]
    async with served(sqlite_url, receiver, webhook_events=("login_refused",)) as api:
        await api.login(await api.create_user("bob@example.com"))
        await wrong(api)
    assert types(receiver) == ["account_registered", "login_refused"]
    assert receiver.received[1].document["data"]["outcome"] == "refused"


def test_unknown_events_are_refused_at_startup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUTHAPI_WEBHOOK_EVENTS", "login,logged_in")
    with pytest.raises(ConfigurationError, match="unknown event logged_in; known are access_"):
        load_settings()
    monkeypatch.setenv("AUTHAPI_WEBHOOK_EVENTS", ",".join(kind.value for kind in EventType))
    assert len(load_settings().webhook_events) == len(EventType)


async def test_rotating_the_secret_keeps_its_own_event_deliverable(
    receiver: Receiver, database_url: str
) -> None:
    receiver.stop()
    async with served(database_url, receiver, secret="x" * 32) as api:
        await api.services.outbox.stop()
        await api.services.keys.lifecycle.rewrap(b"y" * 32)
    receiver.start()
    async with served(database_url, receiver, secret="y" * 32) as api:
        await later(api, minutes=1)
    assert types(receiver) == ["keys_rewrapped"]


async def test_nothing_is_queued_without_urls(sqlite_url: str) -> None:
    async with served(sqlite_url, webhook_secret=None) as api:
        await api.services.outbox.stop()
        await api.create_user()
        await asyncio.sleep(0)
    assert sql(sqlite_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]
