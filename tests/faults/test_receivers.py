"""35: a slow or unreachable webhook receiver or mail server delays no other receiver."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from authapi.crypto.ids import new_id
from authapi.domain.client import Client as Origin
from authapi.domain.events import Event, EventType
from authapi.services import Services
from authapi.services.jobs.encryption import outbox_context
from authapi.settings import Settings
from tests.faults.conftest import NewService, Report
from tests.faults.harness.figures import scaled, spread
from tests.faults.harness.http_client import Client
from tests.faults.harness.polling import until
from tests.servers.webhooks import SECRET, Manner, Receiver
from tests.storage.rows import sql
from tests.tables import outbox

pytestmark = pytest.mark.faults

_EVENTS = 60
_ACTORS = 2
_BOUND = 1.0
"""Seconds from the time of an event, which is before its commit, to its arrival."""
_SLOTS = 5
"""Concurrent deliveries of one process to one receiver."""
_STOPPED_WITHIN = 5.0
_NO_MAIL = "none:"


@dataclass(frozen=True)
class Faulty:
    """The other receivers next to the healthy one, and the mail server."""

    receivers: tuple[Receiver, ...] = ()
    mail_url: str = _NO_MAIL


OtherReceivers = Callable[[], AbstractContextManager[Faulty]]


@contextmanager
def listening(
    manner: Manner = "answers", status: int = 204, delay: float = 0.0
) -> Iterator[Faulty]:
    with Receiver(manner=manner, status=status, delay=delay) as receiver:
        yield Faulty((receiver,))


@contextmanager
def refusing() -> Iterator[Faulty]:
    yield Faulty((Receiver(),))  # no server listens on its port


@contextmanager
def no_receivers() -> Iterator[Faulty]:
    yield Faulty()


@contextmanager
def silent_mail() -> Iterator[Faulty]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield Faulty(mail_url=f"smtp+plain://127.0.0.1:{server.getsockname()[1]}")


KINDS: Mapping[str, OtherReceivers] = {
    "is alone": no_receivers,
    "hangs": partial(listening, "hangs"),
    "drips": partial(listening, "drips"),
    "refuses": refusing,
    "503 after 9 s": partial(listening, status=503, delay=9.0),
    "204 after 9 s": partial(listening, delay=9.0),
    "503 at once": partial(listening, status=503),
    "silent mail server": silent_mail,
}


@contextmanager
def all_kinds() -> Iterator[Faulty]:
    with ExitStack() as stack:
        found = [stack.enter_context(other_receivers()) for other_receivers in KINDS.values()]
        receivers = tuple(receiver for faulty in found for receiver in faulty.receivers)
        yield Faulty(receivers, max(faulty.mail_url for faulty in found))


@pytest.mark.parametrize(
    ("kind", "workers"),
    [*((kind, 1) for kind in KINDS), ("all of them", 1), ("is alone", 4), ("all of them", 4)],
)
async def test_35_sixty_events_next_to_a_receiver_that(
    url: str, new_service: NewService, report: Report, kind: str, workers: int
) -> None:
    other_receivers = KINDS.get(kind, all_kinds)
    with Receiver() as healthy, other_receivers() as faulty:
        urls = [healthy.url, *(receiver.url for receiver in faulty.receivers)]
        service = new_service(
            url,
            WEBHOOK_URLS=",".join(urls),
            WEBHOOK_SECRET=SECRET,
            MAIL_URL=faulty.mail_url,
            MAIL_FROM="authapi <no-reply@mail.example>",
        )
        running = await asyncio.to_thread(service.start, workers=workers)
        await _register(running.port)
        arrived = partial(len, healthy.received)
        last = await _until_all(arrived)
        started_at = time.monotonic()
        await asyncio.to_thread(running.process.terminate)
        stopped = time.monotonic() - started_at
        waits = [_delay(healthy, number) for number in range(arrived())]
        highest = max((receiver.most for receiver in faulty.receivers), default=0)
    ids = {found.headers["webhook-id"] for found in healthy.received}
    report(
        f"{arrived()} of {_EVENTS} arrived, {spread(waits, 1, 2)} s after their event, the last "
        f"{last:.1f} s after the last response; to one faulty receiver at one time max {highest}; "
        f"stopped after {stopped:.1f} s"
    )
    assert (arrived(), len(ids)) == (_EVENTS, _EVENTS), "each exactly once"
    assert max(waits) < _BOUND
    assert highest <= _SLOTS * workers
    assert stopped < _STOPPED_WITHIN


async def test_35_sixty_events_behind_the_queue_of_another_receiver(
    url: str, new_service: NewService, report: Report
) -> None:
    queued, unreachable = scaled(20_000, 100_000), Receiver()  # no server listens on its port
    with Receiver() as healthy:
        service = new_service(
            url,
            WEBHOOK_URLS=f"{unreachable.url},{healthy.url}",
            WEBHOOK_SECRET=SECRET,
            MAIL_URL=_NO_MAIL,
        )
        await _queue(url, service.environment()["AUTHAPI_SECRET"], unreachable.url, queued)
        running = await asyncio.to_thread(service.start)
        await _register(running.port)
        arrived = partial(len, healthy.received)
        await _until_all(arrived)
        waits = [_delay(healthy, number) for number in range(arrived())]
        tried = sql(url, "SELECT sum(attempts) FROM authapi_outbox")[0][0]
    report(
        f"{queued} entries of an unreachable receiver, older than the events: {arrived()} of "
        f"{_EVENTS} arrived, {spread(waits, 1, 2)} s after their event; attempts at the other "
        f"{tried}"
    )
    assert arrived() == _EVENTS
    assert max(waits) < _BOUND
    assert tried < _EVENTS


async def _queue(url: str, secret: str, to: str, count: int) -> None:
    """Inserts entries for `to` that have been due for a minute."""
    services = Services.build(
        Settings(database_url=url, secret=secret, webhook_urls=(to,), webhook_secret=SECRET)  # type: ignore[arg-type]
    )
    event = Event(new_id(), datetime.now(UTC), EventType.LOGIN, None, None, None, Origin(), {})
    async with services.database.transaction() as store:
        await services.webhooks.queue(store, event)
        [first] = await store.outbox.page(limit=1)
    payload = json.dumps(services.outbox.decrypt_payload(first)).encode()
    due = first.due_at - timedelta(minutes=1)
    for begin in range(0, count, 1000):
        rows = []
        for _ in range(min(1000, count - begin)):
            key = new_id()
            encrypted = services.keys.outbox_cipher.encrypt(payload, context=outbox_context(key))
            rows.append(asdict(first) | {"id": key, "payload": encrypted, "due_at": due})
        async with services.database.transaction() as store:
            await store.connection.execute(sa.insert(outbox), rows)
    await services.stop()


async def _register(port: int) -> None:
    numbers = iter(range(_EVENTS))

    async def register_accounts() -> None:
        async with Client(port) as client:
            for number in numbers:
                body = {"email": f"user{number}@example.com", "password": "correct horse battery"}
                assert (await client.post("/register", body)).status == 201

    async with asyncio.TaskGroup() as group:
        for _ in range(_ACTORS):
            group.create_task(register_accounts())


async def _until_all(arrived: Callable[[], int]) -> float:
    """Waits until all events have arrived, 30 s at most. Returns the seconds."""
    started_at = time.monotonic()
    with suppress(TimeoutError):
        await until(lambda: arrived() == _EVENTS, within=30, what="all events")
    return time.monotonic() - started_at


def _delay(receiver: Receiver, number: int) -> float:
    found = receiver.received[number]
    return found.at - datetime.fromisoformat(found.document["timestamp"]).timestamp()
