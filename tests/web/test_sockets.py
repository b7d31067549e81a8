"""What only a real socket shows: connections that are kept, and bodies that never come."""

import os
import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.servers.forked import Forking
from tests.servers.process import free_port


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, forking: Forking) -> Iterator[int]:
    """Where `authapi serve` listens, as it ships but with little patience for bodies."""
    found, folder = free_port(), tmp_path_factory.mktemp("served")
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_BODY_TIMEOUT": "0.3",
    }
    with forking.start(["serve", "--port", str(found)], environment, folder) as process:
        process.wait_ready(f"http://127.0.0.1:{found}/health/ready", timeout=40)
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
def test_head_keeps_the_connection_and_tells_the_length_of_get(
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
def test_a_body_that_never_comes_holds_no_connection(
    port: int, path: str, kind: str, body: bytes
) -> None:
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
