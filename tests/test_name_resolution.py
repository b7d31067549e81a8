"""Lookups of a host whose name servers do not answer do not delay other hosts."""

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
import httpcore
import httpx
import pytest
from pydantic import SecretStr

from authapi import Settings
from authapi.errors import DeliveryFailed
from authapi.name_resolution import connect_socket, connect_to_host, resolve_host
from authapi.outbound.breaches import PwnedPasswordsCheck
from authapi.outbound.http_client import HTTPClient, RequestFailed
from authapi.outbound.isolated_lookups import isolate_lookups
from authapi.outbound.webhooks import WebhookPost
from authapi.services import rate_limit_storage
from authapi.services.mail.transports.smtp import SMTP
from authapi.services.rate_limits import RateLimits
from tests.servers.smtp import new_certificate
from tests.storage.cancelling import until

HANGS = "hangs.example"
WORKS = "works.example"


class Resolver:
    """Replaces `socket.getaddrinfo`: resolves WORKS, and blocks for HANGS until `released`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.hanging = 0
        self.asked: list[str] = []
        self.answers = {WORKS: ["127.0.0.1"]}
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name == HANGS:
            self.hanging += 1
            assert self.released.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        if name in self.answers:
            infos = [
                self._real(address, port, type=socket.SOCK_STREAM) for address in self.answers[name]
            ]
            return [row for rows in infos for row in rows]
        return self._real(host, port, *args, **kwargs)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.released.set()
    # The next test would share a lookup of the same host that is still running.
    for thread in threading.enumerate():
        if thread.name == "authapi-lookup":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
async def port() -> Any:
    """The port of a server that answers all requests with 204."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def many() -> range:
    """More requests than the default executor of asyncio has threads, on every machine."""
    return range(40)


async def test_webhooks_to_a_hanging_host_do_not_delay_others(
    resolver: Resolver, port: int
) -> None:
    post = WebhookPost(timeout=20)
    hanging = [
        asyncio.create_task(post(f"http://{HANGS}/{n}", headers={}, body=b"")) for n in many()
    ]
    await until(lambda: resolver.hanging > 0)
    with anyio.fail_after(5):
        assert await post(f"http://{WORKS}:{port}/", headers={}, body=b"") == 204
        assert await asyncio.to_thread(lambda: 1) == 1, "the default executor is free"
    assert resolver.hanging == 1, "one thread for each host"
    resolver.released.set()
    results = await asyncio.gather(*hanging, return_exceptions=True)
    assert {type(result) for result in results} == {RequestFailed}
    await post.close()


async def test_a_hanging_lookup_ends_with_the_request_timeout(resolver: Resolver) -> None:
    post = WebhookPost(timeout=0.2)
    check = PwnedPasswordsCheck(f"http://{HANGS}/")
    remote = HTTPClient(timeout=timedelta(seconds=0.2))
    with anyio.fail_after(5):
        with pytest.raises(OSError, match="Timeout"):
            await post(f"http://{HANGS}/", headers={}, body=b"")
        with pytest.raises(OSError, match="range API"):
            await check("password")
        with pytest.raises(RequestFailed):
            await remote.get(f"https://{HANGS}/")
    for part in (post, check, remote):
        await part.close()


async def test_issuer_and_breach_requests_do_not_delay_others(
    resolver: Resolver, port: int
) -> None:
    remote = HTTPClient(timeout=timedelta(seconds=20))
    check = PwnedPasswordsCheck(f"http://{HANGS}/")
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


async def test_a_hanging_mail_server_does_not_delay_others(resolver: Resolver, port: int) -> None:
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
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(result) for result in results} == {
        "the mail server: SMTPConnectError, hangs.example on port 25: no answer"
    }
    await post.close()


def settings(url: str, *, timeout: float) -> Settings:
    return Settings(mail_url=SecretStr(url), mail_timeout=timeout)


async def test_cancelling_one_caller_does_not_cancel_the_lookup(resolver: Resolver) -> None:
    one, other = (asyncio.create_task(resolve_host(HANGS)) for _ in range(2))
    await until(lambda: resolver.hanging > 0)
    one.cancel()
    await asyncio.wait([one])
    assert one.cancelled()
    resolver.released.set()
    with anyio.fail_after(5), pytest.raises(socket.gaierror):
        await other


async def test_results_are_not_cached(resolver: Resolver) -> None:
    assert await resolve_host(WORKS) == ("127.0.0.1",)
    assert await resolve_host(WORKS) == ("127.0.0.1",)
    assert resolver.asked.count(WORKS) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0"])
async def test_ip_addresses_are_not_looked_up(resolver: Resolver, host: str) -> None:
    assert await resolve_host(host) == (host,)
    assert resolver.asked == []


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a..b", "nowhere.invalid"])
async def test_invalid_names_raise_os_error(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, *_: Any, **__: Any) -> Any:
        name.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match=r"name|unknown"):
        await resolve_host(host)


async def test_a_failed_thread_start_is_an_error_and_the_next_lookup_works(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(OSError, match="no thread"):
            await resolve_host(WORKS)
    assert await resolve_host(WORKS) == ("127.0.0.1",)


async def test_the_next_address_is_tried_in_parallel(
    resolver: Resolver,
) -> None:
    resolver.answers[WORKS] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    attempted: list[str] = []
    closed: list[str] = []

    async def connect(address: str) -> str:
        attempted.append(address)
        if address == "127.0.0.2":
            await asyncio.Event().wait()
        if address == "127.0.0.3":
            raise ConnectionRefusedError
        return address

    async def close(connection: str) -> None:
        closed.append(connection)

    with anyio.fail_after(5):
        assert await connect_to_host(WORKS, connect, close) == "127.0.0.4"
    assert attempted == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert closed == []


async def test_a_second_connection_is_closed(resolver: Resolver) -> None:
    resolver.answers[WORKS] = ["127.0.0.2", "127.0.0.3"]
    both = asyncio.Event()
    attempted: list[str] = []
    closed: list[str] = []

    async def connect(address: str) -> str:
        attempted.append(address)
        if len(attempted) == 2:
            both.set()
        await both.wait()
        return address

    async def close(connection: str) -> None:
        closed.append(connection)

    with anyio.fail_after(5):
        used = await connect_to_host(WORKS, connect, close)
    assert sorted([used, *closed]) == ["127.0.0.2", "127.0.0.3"]


async def test_a_second_connection_of_a_request_is_closed(resolver: Resolver, port: int) -> None:
    resolver.answers[WORKS] = ["127.0.0.2", "127.0.0.3"]
    both = asyncio.Event()
    sockets: list[socket.socket] = []

    class Late(httpcore.AsyncNetworkBackend):
        async def connect_tcp(
            self, host: str, port: int, *options: Any, **named: Any
        ) -> httpcore.AsyncNetworkStream:
            stream = await real.connect_tcp("127.0.0.1", port, *options, **named)
            sockets.append(stream.get_extra_info("socket"))
            if len(sockets) == 2:
                both.set()
            await both.wait()
            return stream

    async with httpx.AsyncClient(trust_env=False) as client:
        assert isinstance(client._transport, httpx.AsyncHTTPTransport)
        pool = client._transport._pool
        real, pool._network_backend = pool._network_backend, Late()
        isolate_lookups(client, max_bytes=1000)
        with anyio.fail_after(10):
            assert (await client.get(f"http://{WORKS}:{port}/")).status_code == 204
            await until(lambda: [it.fileno() for it in sockets] == [-1, -1])


async def test_the_error_of_the_last_address_is_raised(resolver: Resolver, port: int) -> None:
    resolver.answers[WORKS] = ["127.0.0.2", "127.0.0.1"]
    connection = await connect_socket(WORKS, port)
    assert connection.getpeername()[0] in {"127.0.0.1", "127.0.0.2"}
    connection.close()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connect_socket(WORKS, unused.getsockname()[1])


async def test_a_hanging_redis_host_does_not_delay_others(resolver: Resolver, port: int) -> None:
    rate_limits = RateLimits(Settings(redis_url=SecretStr(f"redis://{HANGS}:6379/0")))
    rate_limits.open()
    waiting = [asyncio.create_task(rate_limits.ping()) for _ in many()]
    await until(lambda: resolver.hanging > 0)
    with anyio.fail_after(5):
        assert await asyncio.to_thread(lambda: 1) == 1
        assert set(await asyncio.gather(*waiting)) == {False}, "the timeout is half a second"
    assert resolver.hanging == 1
    await rate_limits.close()


@pytest.mark.parametrize(("named", "answers"), [(WORKS, True), ("other.example", False)])
async def test_redis_over_tls_verifies_the_host_name(
    resolver: Resolver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    answers: bool,
) -> None:
    monkeypatch.setattr(rate_limit_storage, "_REDIS_TIMEOUT", 60)  # on a busy machine
    certificate = new_certificate(tmp_path, named)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Each command is an array: its first line has the number of elements, of two lines each.
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
        rate_limits = RateLimits(Settings(redis_url=SecretStr(url)))
        rate_limits.open()
        assert await rate_limits.ping() is answers
        await rate_limits.close()
