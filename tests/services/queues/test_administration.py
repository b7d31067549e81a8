"""Queues: superusers see the outbox, repeat deliveries, and send tests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
import time_machine

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.email_address import parse_email
from authapi.domain.events import Event, EventFilter, EventType
from authapi.domain.identity import Identity
from authapi.errors import (
    DeliveryFailed,
    InsufficientAuthentication,
    InvalidCredential,
    MailDisabled,
    NotFound,
    SuperuserRequired,
    TooManyRequests,
)
from authapi.services import Services
from authapi.services.mail import MailKind
from authapi.services.queues.administration import QueueState
from authapi.settings import Settings
from tests.second_factors import add_second_factors
from tests.servers.webhooks import SECRET, Post
from tests.storage.rows import sql

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GOOD, BAD = "https://hooks.example.org/secret-path", "https://bad.example.net/other"
CHANGES = ("mail", "entry", "test mail", "test webhook", "rotate", "retire")


class Transport:
    """Keeps messages, or refuses them for good."""

    def __init__(self) -> None:
        self.refuses = False
        self.sent: list[EmailMessage] = []

    def open(self) -> None:
        return None

    async def send(self, message: EmailMessage) -> None:
        if self.refuses:
            raise DeliveryFailed("the mail server refused the mail (550)", permanent=True)
        self.sent.append(message)

    async def check(self) -> str:
        return "kept"


@dataclass
class House:
    """Services without background tasks, a superuser, and what the services send with."""

    services: Services
    root: Identity
    transport: Transport
    post: Post

    @property
    def queues(self) -> Any:
        return self.services.queues

    async def queue_mail(self, count: int = 1) -> list[UUID]:
        before = {entry.id for entry in await self.queues.page("mail", limit=100)}
        async with self.services.database.transaction() as store:
            for _ in range(count):
                await self.services.mail.queue(store, MailKind.TEST, self.root.user)
        entries = await self.queues.page("mail", limit=100)
        return [entry.id for entry in entries if entry.id not in before]

    async def fail_mail(self, count: int = 1) -> list[UUID]:
        """Queues mails that the server refuses for good."""
        found = await self.queue_mail(count)
        self.transport.refuses = True
        await self.services.outbox.drain()
        self.transport.refuses = False
        return found

    async def events(self, kind: EventType) -> list[Event]:
        return list(await self.services.audit.search(EventFilter(type=kind)))

    async def act(self, change: str, actor: Identity) -> None:
        """Makes one of `CHANGES`."""
        keys = self.services.keys
        match change:
            case "mail":
                await self.queues.retry("mail", actor=actor)
            case "entry":
                [entry, *_] = await self.queues.page("mail", has_failed=True, limit=1)
                await self.queues.retry_entry("mail", entry.id, actor=actor)
            case "test mail":
                await self.queues.send_test_mail(actor=actor)
            case "test webhook":
                await self.queues.test_webhook(receiver_of(self, GOOD), actor=actor)
            case "rotate":
                await keys.rotate(early=True, actor=actor)
            case "retire":
                [key, *_] = await keys.list_stored()
                await keys.lifecycle.retire(key.kid, actor=actor)


def receiver_of(house: House, url: str) -> str:
    [found] = [name for name, it in house.services.webhooks.receivers.items() if it == url]
    return found


@pytest.fixture
async def clock() -> AsyncIterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as found:
        yield found


@pytest.fixture
async def house(clock: time_machine.Traveller, database_url: str) -> AsyncIterator[House]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        webhook_urls=(GOOD, BAD),
        webhook_secret=SECRET,  # type: ignore[arg-type]
        webhook_events=("account_renamed",),
    )
    post, transport = Post({GOOD: 204, BAD: 410}), Transport()
    services = Services.build(settings, post=post)
    services.mail.transport = transport
    await services.open()
    email = parse_email("root@example.com")
    root = await services.accounts.registration.create(email, None, is_superuser=True)
    yield House(
        services,
        Identity(root, "basic", None, frozenset(), now(), ("pwd",), None),
        transport,
        post,
    )
    await services.stop()


async def test_an_empty_queue_has_no_times(house: House) -> None:
    assert await house.queues.state("mail") == QueueState()
    assert await house.queues.states("webhook") == {}
    assert await house.queues.page("mail", limit=5) == []


async def test_waiting_and_failed_entries_are_counted(
    house: House, clock: time_machine.Traveller
) -> None:
    await house.fail_mail(2)
    clock.shift(MINUTE)
    await house.queue_mail(3)
    assert await house.queues.state("mail") == QueueState(
        waiting=3, waiting_since=START + MINUTE, given_up=2, given_up_since=START
    )


async def test_the_time_of_the_last_delivery_is_kept_to_the_minute(
    house: House, clock: time_machine.Traveller
) -> None:
    await house.queue_mail()
    await house.services.outbox.drain()
    assert (await house.queues.state("mail")).delivered_at == START
    await house.queue_mail()
    await house.services.outbox.drain()
    assert (await house.queues.state("mail")).delivered_at == START
    house.services.outbox._recorded.clear()  # as after a minute
    clock.shift(2 * MINUTE)
    await house.fail_mail()
    assert (await house.queues.state("mail")).delivered_at == START, "nothing was delivered"
    await house.queue_mail()
    await house.services.outbox.drain()
    assert (await house.queues.state("mail")).delivered_at == START + 2 * MINUTE


async def test_an_entry_whose_time_cannot_be_recorded_is_delivered_once(house: House) -> None:
    url = house.services.settings.resolved_database_url
    await house.queue_mail()
    sql(url, "ALTER TABLE authapi_last_deliveries RENAME TO away")
    try:
        with pytest.raises(Exception, match="last_deliveries"):
            await house.services.outbox.run_due("mail")
        assert await house.services.outbox.run_due("mail") == 0
    finally:
        sql(url, "ALTER TABLE away RENAME TO authapi_last_deliveries")
    assert len(house.transport.sent) == 1


async def test_each_receiver_of_webhooks_has_a_state(house: House) -> None:
    administration = house.services.accounts.administration
    await administration.change(house.root.user.id, {"name": "Root"})
    good, bad = receiver_of(house, GOOD), receiver_of(house, BAD)
    assert await house.queues.states("webhook") == {
        good: QueueState(waiting=1, waiting_since=START),
        bad: QueueState(waiting=1, waiting_since=START),
    }
    await house.services.outbox.drain()
    assert await house.queues.states("webhook") == {
        good: QueueState(delivered_at=START),
        bad: QueueState(given_up=1, given_up_since=START),
    }
    house.post.statuses[BAD] = 200
    assert await house.queues.retry("webhook", actor=house.root, receiver=good) == 0
    assert await house.queues.retry("webhook", actor=house.root, receiver=bad) == 1
    await house.services.outbox.drain()
    assert (await house.queues.states("webhook"))[bad] == QueueState(delivered_at=START)


async def test_pages_list_each_entry_once(house: House) -> None:
    failed, waiting = set(await house.fail_mail(3)), set(await house.queue_mail(4))
    for has_failed, expected in ((None, failed | waiting), (True, failed), (False, waiting)):
        seen: list[UUID] = []
        while page := await house.queues.page(
            "mail", has_failed=has_failed, after=seen[-1] if seen else None, limit=2
        ):
            seen += [entry.id for entry in page]
        assert len(seen) == len(expected)
        assert set(seen) == expected
        assert seen == sorted(seen)


async def test_a_retry_delivers_what_was_given_up(house: House) -> None:
    await house.fail_mail(3)
    assert await house.queues.retry("mail", actor=house.root) == 3
    assert await house.services.outbox.drain() == 3
    assert len(house.transport.sent) == 3
    [event] = await house.events(EventType.DELIVERIES_RETRIED)
    assert (event.actor_id, event.user_id) == (house.root.user.id, None)
    assert event.detail == {"queue": "mail", "count": 3}


async def test_a_retry_of_nothing_is_no_event(house: House) -> None:
    assert await house.queues.retry("mail", actor=house.root) == 0
    assert await house.events(EventType.DELIVERIES_RETRIED) == []


async def test_one_entry_is_retried_alone(house: House) -> None:
    one, other = await house.fail_mail(2)
    assert await house.queues.retry_entry("mail", one, actor=house.root)
    assert await house.services.outbox.drain() == 1
    assert [entry.id for entry in await house.queues.page("mail", limit=9)] == [other]
    [event] = await house.events(EventType.DELIVERIES_RETRIED)
    assert event.detail == {"queue": "mail", "count": 1, "entry_id": str(one)}
    with pytest.raises(NotFound):
        await house.queues.retry_entry("mail", one, actor=house.root)
    with pytest.raises(NotFound):
        await house.queues.retry_entry("webhook", other, actor=house.root)


async def test_an_entry_in_progress_is_left_alone(house: House) -> None:
    [entry] = await house.queue_mail()
    async with house.services.database.transaction() as store:
        await store.outbox.claim("mail", now=now(), until=now() + MINUTE / 4, limit=1)
    assert not await house.queues.retry_entry("mail", entry, actor=house.root)
    assert await house.queues.retry("mail", actor=house.root) == 0
    assert await house.services.outbox.drain() == 0
    assert await house.events(EventType.DELIVERIES_RETRIED) == []


async def test_fifty_retries_at_once_deliver_each_entry_once(house: House) -> None:
    entries = await house.fail_mail(5)
    counts = await asyncio.gather(
        *(house.queues.retry("mail", actor=house.root) for _ in range(40)),
        *(house.queues.retry_entry("mail", entries[0], actor=house.root) for _ in range(10)),
    )
    await house.services.outbox.drain()
    assert sum(counts[:40]) >= 4
    ids = Counter(message["Message-ID"] for message in house.transport.sent)
    assert sorted(ids.values()) == [1] * 5
    assert await house.queues.state("mail") == QueueState(delivered_at=START)


async def test_a_test_mail_goes_to_the_actor(house: House) -> None:
    await house.queues.send_test_mail(actor=house.root)
    await house.services.outbox.drain()
    [message] = house.transport.sent
    assert message["To"] == "root@example.com"
    [event] = await house.events(EventType.MAIL_TESTED)
    assert (event.actor_id, event.user_id, event.detail) == (house.root.user.id, None, {})


async def test_test_mails_are_limited(house: House) -> None:
    for _ in range(5):
        await house.queues.send_test_mail(actor=house.root)
    with pytest.raises(TooManyRequests) as refused:
        await house.queues.send_test_mail(actor=house.root)
    assert 0 < refused.value.retry_after <= HOUR.total_seconds()
    assert len(await house.queues.page("mail", limit=9)) == 5
    assert len(await house.events(EventType.MAIL_TESTED)) == 5


async def test_without_mail_there_is_no_test_mail(database_url: str) -> None:
    services = Services.build(Settings(database_url=database_url, mail_url="none:"))  # type: ignore[arg-type]
    await services.open()
    email = parse_email("root@example.com")
    root = await services.accounts.registration.create(email, None, is_superuser=True)
    actor = Identity(root, "basic", None, frozenset(), now(), ("pwd",), None)
    with pytest.raises(MailDisabled):
        await services.queues.send_test_mail(actor=actor)
    await services.stop()


@pytest.mark.parametrize(("url", "status"), [(GOOD, 204), (BAD, 410)])
async def test_a_webhook_is_tested_at_once(house: House, url: str, status: int) -> None:
    receiver = receiver_of(house, url)
    assert await house.queues.test_webhook(receiver, actor=house.root) == status
    assert [sent for sent, _ in house.post.sent] == [url]
    [event] = await house.events(EventType.WEBHOOK_TESTED)
    assert (event.actor_id, event.user_id) == (house.root.user.id, None)
    assert event.detail == {"host": url.split("/")[2]}, "no path, which may contain a secret"


async def test_a_webhook_without_an_answer_fails(house: House) -> None:
    del house.post.statuses[GOOD]
    with pytest.raises(DeliveryFailed):
        await house.queues.test_webhook(receiver_of(house, GOOD), actor=house.root)
    assert len(await house.events(EventType.WEBHOOK_TESTED)) == 1


async def test_only_configured_urls_are_tested(house: House) -> None:
    with pytest.raises(NotFound):
        await house.queues.test_webhook("0" * 64, actor=house.root)
    assert house.post.sent == []
    assert await house.events(EventType.WEBHOOK_TESTED) == []


@pytest.mark.parametrize("change", CHANGES)
async def test_each_change_checks_the_actor_again(house: House, change: str) -> None:
    await house.fail_mail()
    services = house.services
    email = parse_email("other@example.com")
    other = await services.accounts.registration.create(email, None, is_superuser=True)
    actor = Identity(other, "basic", None, frozenset(), now(), ("pwd",), None)
    before = sql(services.settings.resolved_database_url, "SELECT count(*) FROM authapi_events")
    ended = replace(actor, session_id=new_id())
    with pytest.raises(InvalidCredential):
        await house.act(change, ended)
    await add_second_factors(services, other)
    with pytest.raises(InsufficientAuthentication):
        await house.act(change, actor)
    proved = replace(actor, amr=("pwd", "otp", "mfa"))
    administration = services.accounts.administration
    await administration.change(other.id, {"is_superuser": False})
    with pytest.raises(SuperuserRequired):
        await house.act(change, proved)
    await administration.change(other.id, {"is_active": False})
    with pytest.raises(InvalidCredential):
        await house.act(change, proved)
    after = sql(services.settings.resolved_database_url, "SELECT count(*) FROM authapi_events")
    assert after[0][0] - before[0][0] == 2, "those of the demotion and of the deactivation"
    assert house.post.sent == []
    assert house.transport.sent == []
    assert (await house.queues.state("mail")).given_up == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_each_change_names_its_actor(house: House, change: str) -> None:
    await house.fail_mail()
    await house.act(change, house.root)
    events = await house.services.audit.search(EventFilter(actor_id=house.root.user.id))
    assert events
    assert {event.user_id for event in events} == {None}


async def test_of_two_rotations_at_once_one_makes_a_key(
    house: House, clock: time_machine.Traveller
) -> None:
    clock.shift(DAY)
    keys = house.services.keys
    results = await asyncio.gather(
        *(keys.rotate(actor=house.root) for _ in range(2)), return_exceptions=True
    )
    assert sorted(getattr(it, "code", "rotated") for it in results) == [
        "key_not_published",
        "rotated",
    ]
    assert len(await keys.list_stored()) == 3
    [event] = await house.events(EventType.KEY_ROTATED)
    assert event.actor_id == house.root.user.id
