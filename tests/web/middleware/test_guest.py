"""Routes of an application answer as without authapi: status, headers, body and exceptions."""

import re
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.websockets import WebSocketDisconnect

from authapi import AuthAPI
from tests.conftest import SettingsFactory
from tests.web.host_application import ORIGIN, build

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette prefers a fork of httpx
    from starlette.testclient import TestClient, WebSocketDenialResponse

OURS = "https://spa.example"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a route of the application."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.headers!r:.60}"


JSON = ("content-type", "application/json")
_PREFLIGHT = "access-control-request-method"

REQUESTS = [
    Asked("GET", "/items"),
    Asked("GET", "/early/items"),
    Asked("HEAD", "/items"),
    Asked("HEAD", "/headed"),
    Asked("GET", "/headed"),
    Asked("HEAD", "/static/page.html"),
    Asked("GET", "/static/page.html"),
    Asked("GET", "/static/page.html", (("accept-encoding", "gzip"),)),
    Asked("GET", "/static/page.html", (("range", "bytes=0-3"),)),
    Asked("GET", "/static/nothing"),
    Asked("GET", "/nothing"),
    Asked("GET", "/nothing", (("host", "evil.example"),)),
    Asked("GET", "/items/"),
    Asked("GET", "/items/", (("host", "evil.example"),)),
    Asked("GET", "/slashed"),
    Asked("GET", "/slashed?x=1"),
    Asked("DELETE", "/items"),
    Asked("OPTIONS", "/items"),
    Asked("GET", "/gone"),
    Asked("GET", "/conflict"),
    Asked("GET", "/teapot"),
    Asked("GET", "/broken"),
    Asked("GET", "/invalid"),
    Asked("GET", "/cached"),
    Asked("POST", "/items", (JSON,), b'{"name": "tea", "price": 2}'),
    Asked("POST", "/items", (JSON,), b'{"name": "tea", "price": "much", "x": 1}'),
    Asked("POST", "/items", (JSON,), b"{"),
    Asked("POST", "/items", (("content-type", "text/plain"),), b"x"),
    Asked("PUT", "/items/x", (JSON,), b'{"name": "tea", "price": 2}'),
    Asked("PUT", "/items/1", (JSON, ("origin", ORIGIN)), b'{"name": "tea", "price": 2}'),
    Asked("GET", "/items", (("origin", ORIGIN),)),
    Asked("GET", "/items", (("origin", OURS),)),
    Asked("GET", "/nothing", (("origin", OURS),)),
    Asked("GET", "/broken", (("origin", ORIGIN),)),
    Asked("OPTIONS", "/items/1", (("origin", ORIGIN), (_PREFLIGHT, "PUT"))),
    Asked(
        "OPTIONS",
        "/items/1",
        (("origin", ORIGIN), (_PREFLIGHT, "PUT"), ("access-control-request-headers", "x-shop")),
    ),
    Asked("OPTIONS", "/items/1", (("origin", OURS), (_PREFLIGHT, "PUT"))),
    Asked("OPTIONS", "/items/1", (("origin", OURS), (_PREFLIGHT, "GET"))),
    Asked("OPTIONS", "/nothing", (("origin", OURS), (_PREFLIGHT, "DELETE"))),
    Asked("GET", "/items", (("cookie", "a=" + "x" * 9000),)),
    Asked("GET", "/headers", (("cookie", "a=" + "x" * 9000), ("x-big", "y" * 20000))),
    Asked("GET", "/headers", (("authorization", "Bearer a"), ("authorization", "Bearer b"))),
    Asked("GET", "/headers", (("x-a", "1"), ("x-a", "2"), ("origin", "null"), ("origin", "x"))),
    Asked("GET", "/headers", (("x-forwarded-proto", "http"), ("x-forwarded-for", "bad"))),
    Asked("GET", "/files/a%2Fb"),
    Asked("GET", "/files/a/b%20c"),
    Asked("GET", "//items"),
    Asked("GET", "/me2"),
    Asked("GET", "/me/unknown"),
    Asked("GET", "/me/sessions/a/b"),
    Asked("GET", "/ME"),
    Asked("GET", "/token/unknown"),
    Asked("GET", "/admin"),
    Asked("GET", "/docs/nothing"),
    Asked("GET", "/account/unknown"),
    Asked("GET", "/account/orders?token=secret"),
    Asked("GET", "/.well-known/security.txt", (("origin", ORIGIN),)),
    Asked("OPTIONS", "/.well-known/nothing", (("origin", ORIGIN), (_PREFLIGHT, "GET"))),
    Asked("GET", "/stream"),
    Asked("GET", "/stream", (("accept-encoding", "gzip"),)),
    Asked("GET", "/sub/items"),
    Asked("GET", "/sub/items/"),
    Asked("GET", "/sub/nothing"),
    Asked("GET", "/sub/broken"),
    Asked("GET", "/sub"),
    Asked("GET", "/docs"),
    Asked("GET", "/redoc"),
]
SOCKETS = ["/echo", "/closed", "/denied", "/refused", "/failing", "/numbered/x", "/numbered/1"]
ACCEPTED = {"/echo": b"\x0f\xa0done", "/numbered/1": b"\x0f\xa01"}
"""The WebSockets that are accepted, and the code and reason with which they are closed."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same application without authapi and with it."""

    without: FastAPI
    installed: FastAPI


@pytest.fixture(params=["defaults", "handlers"])
def handles_errors(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "handlers")


@pytest.fixture(params=["no origins", "origins"])
def pair(
    request: pytest.FixtureRequest,
    make_settings: SettingsFactory,
    tmp_path: Path,
    handles_errors: bool,
) -> Pair:
    origins = [OURS] if request.param == "origins" else []
    auth = AuthAPI(make_settings(allowed_origins=origins, trusted_proxies=["127.0.0.1"]))
    return Pair(
        build(None, tmp_path, handles_errors=handles_errors),
        build(auth, tmp_path, handles_errors=handles_errors),
    )


async def test_httpx(pair: Pair) -> None:
    async with pair.installed.router.lifespan_context(pair.installed):
        for raises in (False, True):
            for asked in REQUESTS:
                expected = await _by_httpx(pair.without, asked, raises=raises)
                assert await _by_httpx(pair.installed, asked, raises=raises) == expected, asked


async def _by_httpx(app: FastAPI, asked: Asked, *, raises: bool) -> object:
    transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        try:
            response = await client.request(
                asked.method, asked.path, headers=list(asked.headers), content=asked.body
            )
        except Exception as error:
            return type(error), str(error)
        return response.status_code, response.headers.raw, response.content


def test_starlette_client(pair: Pair) -> None:
    for raises in (False, True):
        with (
            TestClient(pair.without, raise_server_exceptions=raises) as without,
            TestClient(pair.installed, raise_server_exceptions=raises) as installed,
        ):
            for asked in [*REQUESTS, Asked("GET", "/half")]:
                assert _by_client(installed, asked) == _by_client(without, asked), asked
            for path in [*SOCKETS, "/nothing"]:
                assert _socket(installed, path) == _socket(without, path), path


def _by_client(client: TestClient, asked: Asked) -> object:
    try:
        response = client.request(
            asked.method,
            asked.path,
            headers=list(asked.headers),
            content=asked.body,
            follow_redirects=False,
        )
    except Exception as error:
        return type(error), str(error)
    return response.status_code, response.headers.raw, response.content


def _socket(client: TestClient, path: str) -> object:
    try:
        with client.websocket_connect(path) as found:
            found.send_text("hello")
            seen: list[Any] = [found.extra_headers]
            while True:
                seen.append(found.receive())
                if seen[-1]["type"] == "websocket.close":
                    return seen
    except WebSocketDenialResponse as response:
        return response.status_code, response.headers.raw, response.content
    except WebSocketDisconnect as error:
        return error.code, error.reason
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("protocol", ["httptools", "h11"])
def test_bytes_on_the_wire(pair: Pair, protocol: str) -> None:
    with _served(pair.without, protocol) as without, _served(pair.installed, protocol) as installed:
        for asked in REQUESTS:
            expected = _exchange(without, asked)
            assert expected.startswith(b"HTTP/1.1 ")
            assert _exchange(installed, asked) == expected, asked
        for path, end in ACCEPTED.items():
            expected = _converse(without, path, end)
            assert expected.startswith(b"HTTP/1.1 101 ")
            assert _converse(installed, path, end) == expected, path
        for path in [*sorted({*SOCKETS} - {*ACCEPTED}), "/nothing"]:
            refused = Asked("GET", path, _HANDSHAKE)
            expected = _exchange(without, refused, connection="Upgrade")
            assert _exchange(installed, refused, connection="Upgrade") == expected, path
        endless = Asked("GET", "/endless")
        assert _exchange(installed, endless, limit=1000) == _exchange(without, endless, limit=1000)


@pytest.mark.parametrize("protocol", ["httptools", "h11"])
def test_a_request_with_upgrade_is_the_last_of_its_connection(pair: Pair, protocol: str) -> None:
    """Uvicorn parses the body of such a request as the next request."""
    upgrade = (("upgrade", "h2c"), ("connection", "upgrade"))
    with _served(pair.without, protocol) as without, _served(pair.installed, protocol) as installed:
        for asked in [Asked("GET", "/items", upgrade), Asked("GET", "/nothing", upgrade)]:
            found = _exchange(installed, asked, connection=None)
            assert b"connection: close\r\n" in found
            expected = _exchange(without, asked, connection=None, limit=len(found) - 19)
            assert found.replace(b"connection: close\r\n", b"") == expected


_HANDSHAKE = (
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_ready.set()


@contextmanager
def _served(app: FastAPI, protocol: str) -> Iterator[int]:
    """Runs uvicorn with `app` in a thread, and returns its port."""
    config = uvicorn.Config(
        app, http=protocol, date_header=False, log_level="critical", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert server.is_ready.wait(30)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


def _converse(port: int, path: str, end: bytes) -> bytes:
    """Returns the bytes that a WebSocket receives until it is closed, after it has sent a text."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(_head_of(Asked("GET", path, _HANDSHAKE), connection="Upgrade"))
        found = wire.recv(65536)
        if path == "/echo":
            wire.sendall(b"\x81\x85\0\0\0\0hello")  # the mask is zero
        while not found.endswith(end):
            part = wire.recv(65536)
            assert part, found
            found += part
    return _without_date(found)


def _exchange(
    port: int, asked: Asked, *, connection: str | None = "close", limit: int | None = None
) -> bytes:
    """Returns the bytes of the response, at most `limit`."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(_head_of(asked, connection=connection) + asked.body)
        found = b""
        while limit is None or len(found) < limit:
            part = wire.recv(65536)
            if not part:
                break
            found += part
    return _without_date(found if limit is None else found[:limit])


def _without_date(response: bytes) -> bytes:
    # The WebSocket protocols of uvicorn add one, whatever `date_header` says.
    return re.sub(rb"\r\ndate: [^\r]*", b"", response, flags=re.IGNORECASE)


def _head_of(asked: Asked, *, connection: str | None) -> bytes:
    lines = [f"{asked.method} {asked.path} HTTP/1.1"]
    if all(name != "host" for name, _ in asked.headers):
        lines.append("host: shop.example")
    if connection is not None:
        lines.append(f"connection: {connection}")
    lines += [f"{name}: {value}" for name, value in asked.headers]
    if asked.body:
        lines.append(f"content-length: {len(asked.body)}")
    return "\r\n".join([*lines, "", ""]).encode()
