"""The breach check, with a range API on loopback (OWASP ASVS 6.2.12)."""

import hashlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import ValidationError

from authapi import create_app
from authapi.errors import ConfigurationError
from authapi.outbound import breaches
from authapi.services import passwords
from authapi.settings import load_settings
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.servers.web_server import WebServer

BREACHED = "a horse that has been seen before"
FRESH = "a horse that was never leaked"
BREACH_BOUND, TIMEOUT = passwords._BREACH_TIMEOUT, breaches._TIMEOUT
WARNING = "breach check failed: new password accepted without it"


def sha1(password: str) -> str:
    return hashlib.sha1(password.encode()).hexdigest().upper()


class RangeServer:
    """A range API. `answer` handles each request; `seen` records them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.known
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout: ClassVar[float] = 10

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append((self.path, headers))
                self.close_connection = True
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                return None

        self._server = WebServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/range/"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def known(self, handler: BaseHTTPRequestHandler, count: str = "7") -> None:
        """Send some other suffixes, and that of BREACHED."""
        others = [f"{number:035X}:{number + 1}" for number in range(500)]
        text = "\r\n".join([*others[:250], f"{sha1(BREACHED)[5:]}:{count}", *others[250:]])
        self.send(handler, text.encode())

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler,
        body: bytes,
        status: int = 200,
        *,
        encoding: str = "identity",
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Content-Encoding", encoding)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """A range API that contains BREACHED."""
    # A proxy in the environment must not be used for loopback.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # On a machine that is busy with other tests, one second may not be enough.
    monkeypatch.setattr(passwords, "_BREACH_TIMEOUT", 30.0)
    monkeypatch.setattr(breaches, "_TIMEOUT", 30.0)
    server = RangeServer()
    yield server
    server.close()


@pytest.fixture
async def checked(make_settings: SettingsFactory, ranges: RangeServer) -> AsyncIterator[Client]:
    async with client(create_app(make_settings(breached_passwords_url=ranges.url))) as api:
        yield api


async def register(api: Client, password: str) -> httpx.Response:
    body = {"email": "bob@example.com", "password": password}
    return await api.post("/register", json=body)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_breached_password_is_refused(checked: Client) -> None:
    response = await register(checked, BREACHED)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["code"], error["loc"]) == ("password_breached", ["body", "password"])


async def test_a_breached_password_is_refused_by_a_password_change(checked: Client) -> None:
    alice = await checked.create_user("alice@example.com")
    await checked.login(alice)
    body = {"current_password": PASSWORD, "new_password": BREACHED}
    response = await checked.post("/me/password", json=body)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["code"], error["loc"]) == ("password_breached", ["body", "new_password"])


async def test_request_contains_five_digits_and_asks_for_padding(
    checked: Client, ranges: RangeServer
) -> None:
    assert (await register(checked, FRESH)).status_code == 201
    ((path, headers),) = ranges.seen
    assert path == "/range/" + sha1(FRESH)[:5]
    assert headers["add-padding"] == "true"
    assert not {"authorization", "cookie", "referer"} & set(headers)
    everything = path + repr(headers)
    assert sha1(FRESH)[5:10] not in everything
    assert FRESH not in everything


async def test_a_login_does_not_query_the_api(checked: Client, ranges: RangeServer) -> None:
    alice = await checked.create_user("alice@example.com")
    ranges.seen.clear()
    await checked.login(alice)
    assert ranges.seen == []


async def test_passwords_refused_by_the_policy_are_not_queried(
    checked: Client, ranges: RangeServer
) -> None:
    for password in ("short", "passwordpassword", "bob@example.com bob"):
        assert (await register(checked, password)).status_code == 422
    assert ranges.seen == []


async def test_padding_lines_do_not_match(checked: Client, ranges: RangeServer) -> None:
    ranges.answer = lambda handler: ranges.known(handler, count="0")
    assert (await register(checked, BREACHED)).status_code == 201


async def test_lower_case_and_empty_lines_are_accepted(
    checked: Client, ranges: RangeServer
) -> None:
    suffix = sha1(BREACHED)[5:].lower()
    ranges.answer = lambda handler: ranges.send(handler, f"\n{suffix}:3".encode())
    assert (await register(checked, BREACHED)).status_code == 422


def fails(handler: BaseHTTPRequestHandler) -> None:
    RangeServer.send(handler, b"", 500)


def is_missing(handler: BaseHTTPRequestHandler) -> None:
    RangeServer.send(handler, b"", 404)


def redirects(handler: BaseHTTPRequestHandler) -> None:
    RangeServer.send(handler, b"", 302)


def sends_too_much(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    line = (sha1(BREACHED)[:4] + "X" * 31 + ":1\r\n").encode() * 1000
    try:
        for _ in range(100):
            handler.wfile.write(line)
        handler.wfile.write((sha1(BREACHED)[5:] + ":1\r\n").encode())
    except OSError:
        pass  # the client has closed the connection, as expected


def speaks_no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")


def claims_to_be_compressed(handler: BaseHTTPRequestHandler) -> None:
    RangeServer.send(handler, b"not gzip at all", encoding="gzip")


def disconnects(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "answer",
    [
        fails,
        is_missing,
        redirects,
        sends_too_much,
        speaks_no_http,
        claims_to_be_compressed,
        disconnects,
    ],
    ids=lambda answer: answer.__name__,
)
async def test_without_a_valid_response_the_password_is_accepted_and_logged(
    checked: Client,
    ranges: RangeServer,
    caplog: pytest.LogCaptureFixture,
    answer: Callable[[BaseHTTPRequestHandler], None],
) -> None:
    ranges.answer = answer
    response = await register(checked, BREACHED)
    assert response.status_code == 201, response.text
    assert warnings(caplog) == [WARNING]
    assert [path for path, _ in ranges.seen] == ["/range/" + sha1(BREACHED)[:5]]


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xfe" * 1000, b"<html>" * 100, b":::\n\n:"])
async def test_malformed_responses_do_not_match(
    checked: Client, ranges: RangeServer, body: bytes
) -> None:
    ranges.answer = lambda handler: ranges.send(handler, body)
    assert (await register(checked, BREACHED)).status_code == 201


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
async def test_a_request_times_out_after_one_second(
    checked: Client,
    ranges: RangeServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    drips: bool,
) -> None:
    monkeypatch.setattr(passwords, "_BREACH_TIMEOUT", BREACH_BOUND)
    monkeypatch.setattr(breaches, "_TIMEOUT", TIMEOUT)

    def never(handler: BaseHTTPRequestHandler) -> None:
        if drips:
            # Each byte arrives in time, so only a timeout of the whole request ends it.
            handler.send_response(200)
            handler.end_headers()
        while not ranges.released.wait(0.1):
            if drips:
                try:
                    handler.wfile.write(b"0")
                except OSError:
                    return

    ranges.answer = never
    began = time.monotonic()
    response = await register(checked, BREACHED)
    took = time.monotonic() - began
    assert response.status_code == 201
    assert 0.9 < took < 2
    assert warnings(caplog) == [WARNING]


async def test_a_refused_connection_does_not_refuse_the_password(
    make_settings: SettingsFactory, caplog: pytest.LogCaptureFixture, ranges: RangeServer
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        async with client(create_app(make_settings(breached_passwords_url=url))) as api:
            assert (await register(api, BREACHED)).status_code == 201
    assert warnings(caplog) == [WARNING]


@pytest.mark.parametrize("url", ["http://[::1/", "http://a:b/", "http://\u2603\u2603:99999/"])
async def test_an_invalid_url_does_not_refuse_the_password(
    make_settings: SettingsFactory, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    with pytest.raises(ValidationError, match="must be an http or https URL"):
        make_settings(breached_passwords_url=url)
    # Settings that an application has copied are not validated again.
    settings = make_settings().model_copy(update={"breached_passwords_url": url})
    async with client(create_app(settings)) as api:
        assert (await register(api, BREACHED)).status_code == 201
    assert warnings(caplog) == [WARNING]


async def test_the_check_is_off_by_default(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("something connects")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(httpx.AsyncClient, "__init__", connect)
    assert (await register(api, BREACHED)).status_code == 201


def test_the_url_must_be_http_or_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_BREACHED_PASSWORDS_URL", "file:///etc/passwd?")
    with pytest.raises(ConfigurationError, match="AUTHAPI_BREACHED_PASSWORDS_URL"):
        load_settings()


async def test_one_client_is_reused_and_closed_at_shutdown(
    make_settings: SettingsFactory, ranges: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[httpx.AsyncClient] = []

    class Counted(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

    app = create_app(make_settings(breached_passwords_url=ranges.url))
    async with client(app) as api:
        monkeypatch.setattr(httpx, "AsyncClient", Counted)
        for _ in range(3):
            assert (await register(api, BREACHED)).status_code == 422
        assert len(ranges.seen) == 3
        [kept] = made
        assert not kept.is_closed
    assert kept.is_closed


async def test_a_closed_keep_alive_connection_is_retried(
    checked: Client, ranges: RangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def keeps(handler: BaseHTTPRequestHandler) -> None:
        ranges.known(handler)
        handler.close_connection = False
        ranges.answer = once_hanging_up

    def once_hanging_up(handler: BaseHTTPRequestHandler) -> None:
        ranges.answer = ranges.known
        disconnects(handler)

    ranges.answer = keeps
    for _ in range(2):
        assert (await register(checked, BREACHED)).status_code == 422
    assert len(ranges.seen) == 3
    assert warnings(caplog) == []
