"""The HTTP client: limits on time and size, connections, and errors that repeat no response."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from authapi.outbound import http_client
from authapi.outbound.http_client import ConnectionLost, HTTPClient, RequestFailed

SECRET = "sent by the server"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncache-control: max-age=60\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Server:
    """Answers each request with the next of `answers`, and closes a connection that has none."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.requests: list[str] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length: ")[2].partition("\r\n")[0] or "0"
                body = await reader.readexactly(int(length))
                self.requests.append(head + body.decode())
                if not self.answers:
                    break
                writer.write(self.answers.pop(0))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Server()
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as listening:
        found.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        yield found


def has_connections(client: HTTPClient) -> bool:
    """A function, because mypy takes the attribute to stay what an assertion says."""
    return client.may_have_connections


@asynccontextmanager
async def a_client(*, seconds: float = 30, max_bytes: int = 1000) -> AsyncIterator[HTTPClient]:
    client = HTTPClient(timeout=timedelta(seconds=seconds), max_bytes=max_bytes)
    yield client
    await client.close()


async def test_requests_use_one_connection_until_close(server: Server) -> None:
    server.answers = [OK] * 3
    async with a_client() as client:
        client.open()
        assert not has_connections(client)
        for _ in range(2):
            response = await client.get(server.url, headers={"x-a": "b"})
            assert (response.status, response.cache_control) == (200, "max-age=60")
            assert response.document() == {}
            assert has_connections(client)
        assert server.connections == 1
        await client.close()
        assert not has_connections(client)
        assert await client.post_bytes(server.url, b"body", headers={"x-a": "c"}) == 200
    assert server.connections == 2
    first, *_, last = server.requests
    assert "x-a: b\r\n" in first
    assert "accept-encoding: identity\r\n" in first
    assert "accept: application/json\r\n" in first
    assert last.endswith("\r\n\r\nbody")


async def test_a_form_is_encoded(server: Server) -> None:
    server.answers = [OK]
    async with a_client() as client:
        await client.post(server.url, {"token": "a b"}, headers={})
    (request,) = server.requests
    assert "content-type: application/x-www-form-urlencoded\r\n" in request
    assert request.endswith("\r\n\r\ntoken=a+b")


async def test_a_redirect_is_not_followed(server: Server) -> None:
    server.answers = [b"HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n"]
    async with a_client() as client:
        response = await client.get(server.url)
    assert response.status == 302
    assert len(server.requests) == 1
    with pytest.raises(RequestFailed, match="status 302"):
        response.document()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001, "too long"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n", "compressed"),
        (SECRET.encode() + b"\r\n\r\n", "RemoteProtocolError"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 999,
            "too long",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 4000, "ResponseTooLong"),
    ],
    ids=["too long", "compressed", "no HTTP", "chunks", "not final"],
)
async def test_an_unusable_response_is_an_error(
    server: Server, answer: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "_MAX_CHUNKS", 998)
    server.answers = [answer]
    async with a_client() as client:
        with pytest.raises(RequestFailed) as caught:
            await client.get(server.url)
    assert str(caught.value) == reason


async def test_a_body_that_is_not_read_has_no_limit(server: Server) -> None:
    server.answers = [b"HTTP/1.1 201 Created\r\n\r\n" + b"x" * 100_000]
    async with a_client() as client:
        assert await client.post_bytes(server.url, b"", headers={}) == 201


async def test_a_lost_connection_is_told_apart(server: Server) -> None:
    server.answers = [OK]
    async with a_client() as client:
        await client.get(server.url)
        with pytest.raises(ConnectionLost):
            await client.get(server.url)  # the server closes the connection without an answer
        with pytest.raises(RequestFailed) as caught:
            await client.get("http://127.0.0.1:1/")
    assert not isinstance(caught.value, ConnectionLost)
    assert str(caught.value) == "ConnectError"


async def test_a_cookie_is_not_kept(server: Server) -> None:
    """Requests of several people share a client."""
    answer = OK.replace(b"\r\n\r\n", b"\r\nset-cookie: session=of-another; path=/\r\n\r\n")
    server.answers = [answer, OK]
    async with a_client() as client:
        await client.get(server.url)
        await client.get(server.url)
    assert "cookie" not in server.requests[1]


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1/", "http://a:b/", "ftp://127.0.0.1/", "https://a..b/"),
        *("https://xn--a.example/", "https://xn--zckzah-.example/", f"https://{'a' * 64}.example/"),
    ],
)
async def test_an_invalid_url_is_an_error(url: str) -> None:
    async with a_client() as client:
        with pytest.raises(RequestFailed):
            await client.get(url)


def drip_header(number: int) -> bytes:
    return f"x-{number}: {SECRET}\r\n".encode()


def drip_body(number: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" if number == 0 else b"x"


@pytest.mark.parametrize("drip", [drip_header, drip_body])
async def test_the_timeout_limits_a_request_as_a_whole(drip: Callable[[int], bytes]) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for number in range(1000):
                if number == 0 and drip is drip_header:
                    writer.write(b"HTTP/1.1 200 OK\r\n")
                writer.write(drip(number))
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()
            ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(20):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with a_client(seconds=0.3, max_bytes=10**6) as client:
            with pytest.raises(RequestFailed) as caught:
                await client.get(url)
            assert str(caught.value) == "TimeoutError"
            await ended.wait()


def test_each_event_loop_has_connections_of_its_own() -> None:
    client = HTTPClient(timeout=timedelta(seconds=30))

    async def ask() -> None:
        found = Server()
        found.answers = [OK]
        async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            assert not has_connections(client)
            assert (await client.get(f"http://127.0.0.1:{port}/")).status == 200
            assert has_connections(client)
            assert client._http is not None
            await client._http.aclose()  # `client` keeps it

    asyncio.run(ask())
    asyncio.run(ask())


async def test_the_bound_is_of_each_response(server: Server) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 2000
    server.answers = [hints + OK] * 3
    async with a_client() as client:
        for _ in range(3):
            assert (await client.get(server.url)).status == 200
    assert server.connections == 1
