"""A host whose name servers do not answer delays no other host."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from authapi import Settings
from authapi.errors import DeliveryFailed
from authapi.lookups import addresses, connected, connected_socket
from authapi.services.mail.transports.smtp import SMTP
from authapi.services.throttle import Throttle
from authapi.verify.outgoing import Outgoing, Unreachable
from authapi.web.outgoing.breaches import RangeCheck
from authapi.web.outgoing.webhooks import WebhookPost
from tests.servers.smtp import new_certificate
from tests.storage.cancelling import until

HANGS = "hangs.example"
WORKS = "works.example"


class Resolver:
    """Stands in for `socket.getaddrinfo`; knows one name, and hangs for another."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.hanging = 0
        self.asked: list[str] = []
        self.answers = {WORKS: ["127.0.0.1"]}
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *about: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name == HANGS:
            self.hanging += 1
            assert self.released.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        if name in self.answers:
            found = [self._real(it, port, type=socket.SOCK_STREAM) for it in self.answers[name]]
            return [row for rows in found for row in rows]
        return self._real(host, port, *about, **more)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.released.set()
    # A lookup that still ran would answer the next test, which asks for the same host.
    for thread in threading.enumerate():
        if thread.name == "authapi-lookup":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
async def port() -> Any:
    """Of a server that answers any request with 204."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def many() -> range:
    """More than asyncio's default executor has threads, on every machine."""
    return range(40)


async def test_webhooks_to_a_host_that_hangs_delay_no_other(resolver: Resolver, port: int) -> None:
    post = WebhookPost(timeout=20)
    hanging = [
        asyncio.create_task(post(f"http://{HANGS}/{n}", headers={}, body=b"")) for n in many()
    ]
    await until(lambda: resolver.hanging > 0)
    with anyio.fail_after(5):
        assert await post(f"http://{WORKS}:{port}/", headers={}, body=b"") == 204
        assert await asyncio.to_thread(lambda: 1) == 1, "asyncio's own threads are free"
    assert resolver.hanging == 1, "one thread for a host"
    resolver.released.set()
    ended = await asyncio.gather(*hanging, return_exceptions=True)
    assert {type(it) for it in ended} == {OSError}
    await post.close()


async def test_a_lookup_that_hangs_ends_with_the_time_of_the_request(resolver: Resolver) -> None:
    post = WebhookPost(timeout=0.2)
    check = RangeCheck(f"http://{HANGS}/")
    remote = Outgoing(timeout=timedelta(seconds=0.2))
    with anyio.fail_after(5):
        with pytest.raises(OSError, match="Timeout"):
            await post(f"http://{HANGS}/", headers={}, body=b"")
        with pytest.raises(OSError, match="range API"):
            await check("password")
        with pytest.raises(Unreachable):
            await remote.get(f"https://{HANGS}/")
    for part in (post, check, remote):
        await part.close()


async def test_issuers_and_the_breach_service_alike(resolver: Resolver, port: int) -> None:
    remote = Outgoing(timeout=timedelta(seconds=20))
    check = RangeCheck(f"http://{HANGS}/")
    waiting: list[asyncio.Future[object]] = []
    for n in many():
        waiting.append(asyncio.ensure_future(remote.get(f"https://{HANGS}/")))
        waiting.append(asyncio.ensure_future(check(f"password {n}")))
    await until(lambda: resolver.hanging > 0)
    with anyio.fail_after(5):
        assert (await remote.get(f"http://{WORKS}:{port}/")).status == 204
        assert await asyncio.to_thread(lambda: 1) == 1
    resolver.released.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    await remote.close()
    await check.close()


async def test_a_mail_server_that_hangs_delays_no_other(resolver: Resolver, port: int) -> None:
    mail = EmailMessage()
    mail["To"] = "alice@example.com"
    transport = SMTP(settings(f"smtp+plain://{HANGS}", timeout=20))
    waiting = [asyncio.create_task(transport.send(mail)) for _ in many()]
    await until(lambda: resolver.hanging > 0)
    post = WebhookPost(timeout=20)
    with anyio.fail_after(5):
        assert await post(f"http://{WORKS}:{port}/", headers={}, body=b"") == 204
        assert await asyncio.to_thread(lambda: 1) == 1
        brief = SMTP(settings(f"smtp+plain://{HANGS}", timeout=0.2))
        with pytest.raises(DeliveryFailed, match="SMTPConnectTimeoutError"):
            await brief.send(mail)
    resolver.released.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(it) for it in ended} == {"the mail server: SMTPConnectError"}
    await post.close()


def settings(url: str, *, timeout: float) -> Settings:
    return Settings(mail_url=SecretStr(url), mail_timeout=timeout)


async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(resolver: Resolver) -> None:
    one, other = (asyncio.create_task(addresses(HANGS)) for _ in range(2))
    await until(lambda: resolver.hanging > 0)
    one.cancel()
    await asyncio.wait([one])
    assert one.cancelled()
    resolver.released.set()
    with anyio.fail_after(5), pytest.raises(socket.gaierror):
        await other


async def test_the_next_lookup_of_a_host_is_a_new_one(resolver: Resolver) -> None:
    assert await addresses(WORKS) == ("127.0.0.1",)
    assert await addresses(WORKS) == ("127.0.0.1",)
    assert resolver.asked.count(WORKS) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0"])
async def test_an_address_is_not_looked_up(resolver: Resolver, host: str) -> None:
    assert await addresses(host) == (host,)
    assert resolver.asked == []


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a..b", "nowhere.invalid"])
async def test_a_name_that_cannot_be_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, *_: Any, **__: Any) -> Any:
        name.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match=r"name|unknown"):
        await addresses(host)


async def test_no_thread_is_an_error_and_not_the_last_word(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(OSError, match="no thread"):
            await addresses(WORKS)
    assert await addresses(WORKS) == ("127.0.0.1",)


async def test_the_next_address_is_tried_beside_one_that_does_not_answer(
    resolver: Resolver,
) -> None:
    resolver.answers[WORKS] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    begun: list[str] = []
    closed: list[str] = []

    async def connect(address: str) -> str:
        begun.append(address)
        if address == "127.0.0.2":
            await asyncio.Event().wait()
        if address == "127.0.0.3":
            raise ConnectionRefusedError
        return address

    async def close(connection: str) -> None:
        closed.append(connection)

    with anyio.fail_after(5):
        assert await connected(WORKS, connect, close) == "127.0.0.4"
    assert begun == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert closed == []


async def test_of_two_that_connect_together_one_is_closed(resolver: Resolver) -> None:
    resolver.answers[WORKS] = ["127.0.0.2", "127.0.0.3"]
    both = asyncio.Event()
    begun: list[str] = []
    closed: list[str] = []

    async def connect(address: str) -> str:
        begun.append(address)
        if len(begun) == 2:
            both.set()
        await both.wait()
        return address

    async def close(connection: str) -> None:
        closed.append(connection)

    with anyio.fail_after(5):
        used = await connected(WORKS, connect, close)
    assert sorted([used, *closed]) == ["127.0.0.2", "127.0.0.3"]


async def test_the_error_of_the_last_address_is_raised(resolver: Resolver, port: int) -> None:
    resolver.answers[WORKS] = ["127.0.0.2", "127.0.0.1"]
    connection = await connected_socket(WORKS, port)
    assert connection.getpeername()[0] in {"127.0.0.1", "127.0.0.2"}
    connection.close()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connected_socket(WORKS, unused.getsockname()[1])


async def test_a_shared_store_that_hangs_delays_no_other(resolver: Resolver, port: int) -> None:
    throttle = Throttle(Settings(redis_url=SecretStr(f"redis://{HANGS}:6379/0")))
    throttle.open()
    waiting = [asyncio.create_task(throttle.ping()) for _ in many()]
    await until(lambda: resolver.hanging > 0)
    with anyio.fail_after(5):
        assert await asyncio.to_thread(lambda: 1) == 1
        assert set(await asyncio.gather(*waiting)) == {False}, "its time is half a second"
    assert resolver.hanging == 1
    await throttle.close()


@pytest.mark.parametrize(("named", "answers"), [(WORKS, True), ("other.example", False)])
async def test_a_shared_store_in_tls_shows_a_certificate_for_its_name(
    resolver: Resolver, tmp_path: Path, named: str, answers: bool
) -> None:
    certificate = new_certificate(tmp_path, named)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Each command is an array: its first line says of how many pairs of lines.
        while line := await reader.readline():
            words = [
                [await reader.readline(), await reader.readline()][1] for _ in range(int(line[1:]))
            ]
            writer.write(b"+PONG\r\n" if words[0].upper() == b"PING\r\n" else b"+OK\r\n")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.path, certificate.key)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"rediss://{WORKS}:{port}/0?ssl_ca_certs={certificate.path}&protocol=2"
        throttle = Throttle(Settings(redis_url=SecretStr(url)))
        throttle.open()
        assert await throttle.ping() is answers
        await throttle.close()
