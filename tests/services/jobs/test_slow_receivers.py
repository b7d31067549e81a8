"""Real receivers and mail servers that hang, drip or refuse, next to a working one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from typing import Any

import anyio
import pytest

from authapi import create_app
from authapi.errors import DeliveryFailed
from authapi.outbound.webhooks import WebhookPost
from authapi.services.jobs import deliveries
from authapi.services.jobs.receivers import EntryFailed
from authapi.services.mail.transports import Transport, create_transport
from authapi.settings import Settings
from authapi.testing import Client, client
from tests.servers.process import free_port
from tests.servers.webhooks import SECRET, Receiver
from tests.storage.rows import sql

pytestmark = pytest.mark.slow

EVENTS = 20
GREETING, EHLO, MAIL, RCPT, DATA, TEXT, QUIT, RSET = range(8)
"""The replies of a mail server to one mail, in order, and to RSET."""


@asynccontextmanager
async def serve(url: str, *receivers: Receiver, **changes: Any) -> AsyncIterator[Client]:
    settings = Settings(
        database_url=url,  # type: ignore[arg-type]
        webhook_urls=tuple(found.url for found in receivers),
        webhook_secret=SECRET,  # type: ignore[arg-type]
        **changes,
    )
    async with client(create_app(settings), delivers_mail=True) as api:
        yield api


async def register(api: Client) -> None:
    for number in range(EVENTS):
        await api.create_user(f"user{number}@example.com")


async def until(condition: Callable[[], bool]) -> float:
    """Waits 5 s at most, half the timeout of a delivery. Returns how many seconds it took."""
    started_at = time.monotonic()
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110  # threads and other processes change it
            await asyncio.sleep(0.01)
    return time.monotonic() - started_at


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"manner": "hangs"}, id="hangs"),
        pytest.param({"manner": "drips"}, id="drips"),
        pytest.param({"status": 503}, id="503"),
        pytest.param({"status": 503, "delay": 9.0}, id="late 503"),
        pytest.param({"delay": 9.0}, id="late 204"),
    ],
)
async def test_a_slow_receiver_delays_no_other(
    database_url: str, behaviour: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_GRACE", 0.05)
    with Receiver() as good, Receiver(**behaviour) as bad:
        async with serve(database_url, bad, good, mail_url="none:") as api:
            await register(api)
            await until(lambda: len(good.received) == EVENTS)
        assert bad.most <= 5
        assert len({found.headers["webhook-id"] for found in good.received}) == EVENTS


async def test_an_unreachable_receiver_delays_no_other(database_url: str) -> None:
    with Receiver() as good:
        async with serve(database_url, Receiver(), good, mail_url="none:") as api:
            await register(api)
            await until(lambda: len(good.received) == EVENTS)
            tried = "SELECT count(*) FROM authapi_outbox WHERE attempts > 0"
            assert sql(database_url, tried)[0][0] < EVENTS, "it is probed by one entry at a time"


async def test_hanging_receivers_use_no_connection_of_another() -> None:
    post = WebhookPost(timeout=30)
    post.open()
    with Receiver(manner="hangs") as bad, Receiver() as good:
        async with asyncio.TaskGroup() as group:
            hanging = [group.create_task(post(bad.url, headers={}, body=b"{}")) for _ in range(110)]
            await until(lambda: len(bad.received) == 110)
            assert await post(good.url, headers={}, body=b"{}") == 204
            for task in hanging:
                task.cancel()
    await post.close()
    with Receiver() as good:
        assert await post(good.url, headers={}, body=b"{}") == 204, "it opens connections again"
    await post.close()


class MailServer:
    """A mail server that stalls or drips at one of its replies, and otherwise accepts mail."""

    def __init__(self, stalls_at: int | None = None, *, drips: bool = False) -> None:
        self.stalls_at = stalls_at
        self.drips = drips
        self.refuses: dict[int, bytes] = {}
        self.port = free_port()
        self.accepted = 0
        self.open = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["MailServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            await until(lambda: self.open == 0)

    def transport(self, timeout: float) -> Transport:
        url = f"smtp+plain://127.0.0.1:{self.port}"
        found = create_transport(Settings(mail_url=url, mail_timeout=timeout))  # type: ignore[arg-type]
        assert found is not None
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with suppress(OSError, EOFError):
                await self._answer(reader, writer, GREETING, b"220 here")
                while line := await reader.readline():
                    await self._handle_command(line[:4].upper(), reader, writer)
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _handle_command(
        self, verb: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if verb == b"DATA":
            await self._answer(reader, writer, DATA, b"354 go on")
            await reader.readuntil(b"\r\n.\r\n")
            self.accepted += 1
            await self._answer(reader, writer, TEXT, b"250 accepted")
        elif verb == b"QUIT":
            await self._answer(reader, writer, QUIT, b"221 bye")
        else:
            order = {b"EHLO": EHLO, b"MAIL": MAIL, b"RCPT": RCPT, b"RSET": RSET}[verb]
            await self._answer(reader, writer, order, self.refuses.get(order, b"250 OK"))

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        order: int,
        answer: bytes,
    ) -> None:
        while order == self.stalls_at and not (reader.at_eof() or writer.is_closing()):
            await asyncio.sleep(0.05)
            if self.drips:
                writer.write(answer[:3] + b"-wait\r\n")
                await writer.drain()
        if self.drips and self.stalls_at is None:
            await asyncio.sleep(0.3)
        writer.write(answer + b"\r\n")


def make_mail() -> EmailMessage:
    message = EmailMessage()
    message["To"], message["Message-ID"] = "alice@example.com", "<1@mail.example>"
    message.set_content("text\n")
    return message


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
async def test_a_mail_server_that_hangs_delays_no_webhook(database_url: str, drips: bool) -> None:
    with Receiver() as good:
        async with MailServer(GREETING, drips=drips).running() as server:
            url = f"smtp+plain://127.0.0.1:{server.port}"
            async with serve(database_url, good, mail_url=url) as api:
                for number in range(EVENTS):
                    body = {"email": f"user{number}@example.com", "password": "correct horse one"}
                    assert (await api.post("/register", json=body)).status_code == 201
                await until(lambda: len(good.received) == EVENTS)
                assert server.open <= 5


async def test_a_receiver_that_hangs_delays_no_mail(database_url: str) -> None:
    with Receiver(manner="hangs") as bad:
        async with MailServer().running() as server:
            url = f"smtp+plain://127.0.0.1:{server.port}"
            async with serve(database_url, bad, mail_url=url) as api:
                for number in range(EVENTS):
                    body = {"email": f"user{number}@example.com", "password": "correct horse one"}
                    assert (await api.post("/register", json=body)).status_code == 201
                await until(lambda: server.accepted == EVENTS)


@pytest.mark.parametrize(
    ("order", "drips"),
    # The reply to a mail is complete with its code, so only silence delays it.
    [(GREETING, True), (EHLO, True), (MAIL, True), (RCPT, True), (DATA, True), (TEXT, False)],
)
async def test_a_dripping_delivery_ends_at_its_timeout(order: int, drips: bool) -> None:
    async with MailServer(order, drips=drips).running() as server:
        found = server.transport(timeout=20)
        started_at = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await found.send(make_mail())
        assert time.monotonic() - started_at < 2, "no QUIT is sent first"
        await until(lambda: server.open == 0)


async def test_an_acceptance_counts_from_its_code() -> None:
    async with MailServer(TEXT, drips=True).running() as server:
        found = server.transport(timeout=20)
        async with asyncio.timeout(2):
            await found.send(make_mail())
        assert server.accepted == 1
        await until(lambda: server.open == 0)


async def test_the_timeout_of_a_delivery_includes_all_steps(sqlite_url: str) -> None:
    async with MailServer(drips=True).running() as server:
        url = f"smtp+plain://127.0.0.1:{server.port}"
        async with serve(sqlite_url, mail_url=url, mail_timeout=0.4) as api:
            api.services.outbox._delivery_timeout = 1.0  # of seven steps, each of 0.3 s
            body = {"email": "alice@example.com", "password": "correct horse one"}
            assert (await api.post("/register", json=body)).status_code == 201
            await api.services.outbox.drain()
            assert sql(sqlite_url, "SELECT error FROM authapi_outbox") == [("TimeoutError",)]


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
async def test_a_missing_reply_to_quit_does_not_fail_an_accepted_mail(drips: bool) -> None:
    async with MailServer(QUIT, drips=drips).running() as server:
        found = server.transport(timeout=20)
        started_at = time.monotonic()
        await found.send(make_mail())
        assert time.monotonic() - started_at < 4
        assert server.accepted == 1
        await until(lambda: server.open == 0)


async def test_a_rejected_recipient_is_not_a_failure_of_the_server() -> None:
    async with MailServer().running() as server:
        server.refuses[RCPT] = b"450 mailbox busy"
        with pytest.raises(EntryFailed):
            await server.transport(5).send(make_mail())
        server.refuses[RCPT] = b"421 closing"
        with pytest.raises(DeliveryFailed) as raised:
            await server.transport(5).send(make_mail())
        assert not isinstance(raised.value, EntryFailed)
