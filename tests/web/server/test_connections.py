"""Persistent connections, timeouts and refusals over real sockets."""

import os
import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import httpx
import pytest

from tests.servers.forked import Forking
from tests.servers.process import free_port


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, forking: Forking) -> Iterator[int]:
    """The port of `authapi serve` with a short body timeout."""
    found, folder = free_port(), tmp_path_factory.mktemp("served")
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_BODY_TIMEOUT": "0.3",
    }
    with forking.start(["serve", "--port", str(found)], environment, folder) as process:
        process.wait_ready(f"http://127.0.0.1:{found}/health/ready", timeout=60)
        yield found


@pytest.fixture
def connection(port: int) -> Iterator[HTTPConnection]:
    found = HTTPConnection("127.0.0.1", port, timeout=10)
    found.connect()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health/live", 200), ("/me", 401), ("/nowhere", 404), ("/login", 405), ("/docs", 200)],
)
def test_head_keeps_the_connection_open_with_the_length_of_get(
    connection: HTTPConnection, path: str, status: int
) -> None:
    kept, lengths = connection.sock, []
    for method in ("HEAD", "GET", "HEAD", "GET"):
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        assert (answer.status, connection.sock) == (status, kept), method
        assert answer.getheader("connection") != "close"
        assert (body == b"") == (method == "HEAD")
        lengths.append(int(answer.getheader("content-length", "-1")))
        if method == "GET":
            assert len(body) == lengths[-1]
    assert len(set(lengths)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 9\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: 9\r\n\r\n{",
    ],
)
@pytest.mark.parametrize(
    ("path", "kind"), [("/login", "json"), ("/token", "x-www-form-urlencoded")]
)
def test_missing_body_times_out(port: int, path: str, kind: str, body: bytes) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/{kind}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while data := connection.recv(65536):  # until the service closes
            answer += data
    first, _, rest = answer.partition(b"\r\n")
    assert first == b"HTTP/1.1 408 Request Timeout"
    assert b"\r\nconnection: close\r\n" in rest.lower()
    assert b'"code": "request_timeout"' in rest
    content_type = b"application/json" if path == "/token" else b"application/problem+json"
    assert b"\r\ncontent-type: " + content_type + b"\r\n" in rest.lower()


def answered(port: int, *packets: bytes) -> bytes:
    """Sends packets, some of which the service may not read; returns all bytes until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for packet in packets:
            try:
                connection.sendall(packet)
            except ConnectionError:
                break
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
LOGIN = b"POST /login HTTP/1.1\r\nHost: x\r\n"
JSON = b"Content-Type: application/json\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = b"GET /me HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "rest", "status", "code"),
    [
        (GET + b"X-A: ", b"a", 431, b"headers_too_large"),
        (GET, b"a:b\r\n", 431, b"headers_too_large"),
        (b"GET /", b"a", 414, b"target_too_long"),
        (
            LOGIN + JSON + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: ",
            b"a",
            431,
            b"headers_too_large",
        ),
        (b"\x16\x03\x01\x02", b"\0", 400, b"malformed_request"),
        (b"GET / HTTP/2.0\r\n\r\n", b"a", 505, b"http_version_not_supported"),
        (LOGIN + JSON + b"Content-Length: 99999999\r\n\r\n", b"a", 413, b"body_too_large"),
        (LOGIN + b"Content-Length: 60000\r\n\r\n", b"a", 415, b"unsupported_media_type"),
    ],
)
def test_client_that_sends_too_much_can_read_the_response(
    port: int, first: bytes, rest: bytes, status: int, code: bytes
) -> None:
    answer = answered(port, first, rest * (4_000_000 // len(rest)))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b'"code": "%b"' % code in body
    for field in (
        *(b"connection: close", b"content-type: application/problem+json"),
        *(b"cache-control: no-store", b"x-content-type-options: nosniff", b"x-request-id: "),
    ):
        assert head.lower().count(b"\r\n" + field) == 1, field


@pytest.mark.parametrize("target", [b"/token", b"/token/revoke?x=1", b"/token/%69ntrospect"])
def test_unread_request_to_an_oauth_endpoint_gets_an_oauth_error(port: int, target: bytes) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n" % target
    for first, rest, status in (
        (head + b"X-A: ", b"a" * 200_000, 431),
        (head + FORM + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: ", b"a" * 200_000, 431),
        (head, b"", 408),
    ):
        answer = answered(port, first, rest)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        fields, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\ncontent-type: application/json\r\n" in fields.lower() + b"\r\n"
        assert b'"error": "invalid_request"' in body
        assert b'"error_description": "' in body


def test_unread_request_to_a_public_document_gets_cors_headers(port: int) -> None:
    for path in (b"/.well-known/jwks.json", b"/.well-known/nothing"):
        answer = answered(port, b"GET %b HTTP/1.1\r\nHost: x\r\nX-A: " % path, b"a" * 200_000)
        head = answer.partition(b"\r\n\r\n")[0].lower() + b"\r\n"
        assert head.startswith(b"http/1.1 431 ")
        for field in (
            b"access-control-allow-origin: *",
            b"cross-origin-resource-policy: cross-origin",
        ):
            assert head.count(b"\r\n" + field + b"\r\n") == 1


def test_trailer_fields_are_not_headers(port: int) -> None:
    credentials = {"email": "trailer@example.com", "password": "correct horse battery staple"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert client.post("/register", json=credentials).status_code == 201
        answer = client.post("/login", json={**credentials, "strategy": "token"})
        cookie = client.post("/login", json=credentials).headers["set-cookie"].partition(";")[0]
    token = answer.json()["access_token"]
    close = CHUNKED.replace(b"Host: x", b"Host: x\r\nConnection: close")
    for field in (f"Authorization: Bearer {token}", f"Cookie: {cookie}"):
        good = close.replace(b"\r\nTransfer-Encoding: chunked", b"\r\n" + field.encode())
        assert answered(port, good).startswith(b"HTTP/1.1 200 ")
        for body in (b"0\r\n", b"3\r\nabc\r\n0\r\n"):
            trailer = body + field.encode() + b"\r\n\r\n"
            for packets in ([close + trailer], [close, trailer]):
                assert answered(port, *packets).startswith(b"HTTP/1.1 401 ")


def test_incomplete_header_section_times_out(port: int) -> None:
    answer = answered(port, b"GET /me HTTP/1.1\r\nHost: x\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answered(port) == b""
