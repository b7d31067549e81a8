"""Replies of an SMTP server to the mail data: only the reply code counts, and every wait ends."""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from typing import Any

import pytest

from authapi import create_app
from authapi.errors import DeliveryFailed
from authapi.services.mail.transports import create_transport
from authapi.settings import Settings
from authapi.testing import client
from tests.storage.rows import sql

MEGABYTE = b"".join(b"250-" + b"x" * 120 + b"\r\n" for _ in range(8200)) + b"250 OK\r\n"
CUT, HANG = b"<cut>", b"<hang>"
"""In place of a part of a reply: the connection ends, or the server sends nothing more."""


class Scripted:
    """An SMTP server that replies to mail data, and to QUIT, with parts sent one by one."""

    def __init__(self, reply: Sequence[bytes], quit_reply: Sequence[bytes] = (b"221 bye\r\n",)):
        self.reply, self.quit_reply = reply, quit_reply
        self.mails: list[bytes] = []
        self.commands: list[bytes] = []
        self.was_asked_to_quit = asyncio.Event()
        self.pause = 0.0
        self.port = 0
        self._served: list[tuple[asyncio.Task[None] | None, asyncio.StreamWriter]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task, writer in self._served:
                writer.transport.abort()
                if task is not None:
                    await asyncio.wait([task])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.append((asyncio.current_task(), writer))
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        while command := await reader.readline():
            self.commands.append(command.strip())
            if command.startswith(b"QUIT"):
                self.was_asked_to_quit.set()
            if command.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
                parts = self.reply
            else:
                parts = self.quit_reply if command.startswith(b"QUIT") else [b"250 OK\r\n"]
            for part in parts:
                if part == CUT:
                    return
                if part == HANG:
                    await reader.read()
                    return
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(self.pause)

    def settings(self, **more: Any) -> Settings:
        return Settings(
            mail_url=f"smtp+plain://127.0.0.1:{self.port}",  # type: ignore[arg-type]
            mail_from="no-reply@mail.example",
            mail_timeout=1,
            **more,
        )


def message() -> EmailMessage:
    found = EmailMessage()
    found["To"] = "alice@example.com"
    found.set_content("first\n.\n.hidden\n..twice\n")
    return found


async def send(server: Scripted) -> None:
    async with server.running():
        transport = create_transport(server.settings())
        assert transport is not None
        await transport.send(message())


ACCEPTED: dict[str, Sequence[bytes]] = {
    "one line": [b"250 OK\r\n"],
    "no text": [b"250\r\n"],
    "a bare line feed": [b"250 OK\n"],
    "a megabyte": [MEGABYTE],
    "no end of lines": [b"250-more\r\n" * 50, HANG],
    "a line without end": [b"250 " + b"x" * 200_000, HANG],
    "a malformed second line": [b"250-first\r\n\xff\xfe\r\nnonsense\r\n", HANG],
    "another code in the second line": [b"250-first\r\n", b"451 second\r\n", HANG],
    "cut after the line": [b"250 OK\r\n", CUT],
    "cut within the line": [b"250 O", CUT],
    "cut after the first of two lines": [b"250-first\r\n", CUT],
    "cut after the code": [b"250", CUT],
    "silent after the code": [b"250", HANG],
    "closing afterwards": [b"250 OK\r\n421 closing\r\n", CUT],
    "closing afterwards, later": [b"250 OK\r\n", b"421 closing\r\n", CUT],
    "another success": [b"251 will forward\r\n"],
}


@pytest.mark.parametrize("reply", ACCEPTED)
async def test_reply_code_2xx_means_accepted(reply: str) -> None:
    server = Scripted(ACCEPTED[reply])
    began = time.monotonic()
    await send(server)
    assert time.monotonic() - began < 3
    [mail] = server.mails
    assert mail.endswith(b"\r\n\r\nfirst\r\n..\r\n..hidden\r\n...twice\r\n.\r\n")


@pytest.mark.parametrize("quit_reply", [[b"500 what?\r\n"], [HANG], [CUT], [MEGABYTE], [b"\xff"]])
async def test_reply_to_quit_does_not_matter(quit_reply: Sequence[bytes]) -> None:
    server = Scripted([b"250 OK\r\n"], quit_reply)
    began = time.monotonic()
    await send(server)
    assert time.monotonic() - began < 3
    assert server.commands[-1] == b"QUIT"


async def test_reply_code_may_arrive_byte_by_byte() -> None:
    server = Scripted([bytes([octet]) for octet in b"250-first\r\n250 OK\r\n"])
    server.pause = 0.05
    await send(server)
    assert len(server.mails) == 1


REFUSED: dict[str, tuple[Sequence[bytes], str, bool]] = {
    "for good": ([b"554 spam\r\n"], "refused the mail (554)", True),
    "for good, at length": ([MEGABYTE.replace(b"250", b"554")], "refused the mail (554)", True),
    "for now, at length": ([MEGABYTE.replace(b"250", b"451")], "refused the mail (451)", False),
    "closing": ([b"421 closing\r\n", CUT], "refused the mail (421)", False),
    "cut within the code": ([b"25", CUT], ": malformed reply", False),
    "cut before it": ([CUT], ": SMTPServerDisconnected", False),
    "silent": ([HANG], ": SMTPReadTimeoutError", False),
    "nonsense": ([b"OK 250\r\n", HANG], ": malformed reply", False),
    "only line ends": ([b"\r\n" * 99, HANG], ": malformed reply", False),
    "non-ASCII digits": (["٢٥٠ OK\r\n".encode(), HANG], ": malformed reply", False),
}


@pytest.mark.parametrize("reply", REFUSED)
async def test_other_replies_are_failures(reply: str) -> None:
    parts, reason, is_permanent = REFUSED[reply]
    began = time.monotonic()
    with pytest.raises(DeliveryFailed) as failed:
        await send(Scripted(parts))
    assert time.monotonic() - began < 3
    assert str(failed.value).removeprefix("the mail server").strip() == reason
    assert failed.value.permanent is is_permanent


def test_data_transfer_works_on_uvloop() -> None:
    new_loop: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(
        "uvloop"
    ).new_event_loop
    server = Scripted([MEGABYTE])
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(send(server))
    assert len(server.mails) == 1


async def test_accepted_mail_is_not_sent_again(database_url: str) -> None:
    server = Scripted([MEGABYTE], [HANG])
    async with server.running():
        app = create_app(server.settings(database_url=database_url))
        async with client(app, delivers_mail=True) as api:
            user = await api.create_user("alice@example.com")
            await api.services.accounts.passwords.set(user.id, "another horse battery staple")
            await api.services.outbox.drain()
    assert len(server.mails) == 1
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]


async def test_cancellation_after_acceptance_is_ignored() -> None:
    server = Scripted([b"250 OK\r\n"], [HANG])
    async with server.running():
        transport = create_transport(server.settings())
        assert transport is not None
        delivery = asyncio.create_task(transport.send(message()))
        async with asyncio.timeout(5):
            await server.was_asked_to_quit.wait()
        delivery.cancel()
        await delivery
    assert not delivery.cancelled()
