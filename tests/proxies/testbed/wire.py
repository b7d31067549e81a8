"""HTTP/1 over a socket: sends raw bytes, and reads responses one by one."""

import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT = 10.0
"""Seconds to wait for a response or the close of a connection."""


class NoAnswer(Exception):
    """The connection is open, and no complete response arrived within `TIMEOUT`."""


@dataclass(frozen=True)
class Address:
    """An address on loopback; with `trust`, by TLS as `localhost`."""

    port: int
    trust: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Answer:
    """A final response."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; values of repeated fields are joined with commas."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        """Whether it has `Connection: close` (RFC 9112, section 9.6)."""
        return "close" in self.headers.get("connection", "").lower()


class Connection:
    """A connection to `address`, closed at the end of the context."""

    def __init__(self, address: Address, timeout: float = TIMEOUT) -> None:
        plain = socket.create_connection(("127.0.0.1", address.port), timeout=timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = address.port, plain.getsockname()[1]
        self._socket: socket.socket = plain
        if address.trust is not None:
            try:
                self._socket = address.trust.wrap_socket(plain, server_hostname="localhost")
            except OSError:
                plain.close()
                raise
        self._timeout = timeout
        self._unread = b""
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Sends `data`. Data for a closed peer is lost, as on a network."""
        with suppress(ConnectionError, ssl.SSLError):
            self._socket.sendall(data)

    def wait_until_read(self) -> None:
        """Waits until the peer has read all sent data, so that the next bytes arrive separately."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and _queued(*self._peer):
            time.sleep(0.001)

    def answer(self, method: str = "GET") -> Answer | None:
        """Returns the next final response, to a request by `method`; None if the connection ends.

        Raises NoAnswer if neither happens within the timeout of this connection.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            head = self._until(b"\r\n\r\n", deadline)
            if head is None:
                return None
            first, *lines = head.decode("latin-1").split("\r\n")
            status = int(first.split(" ")[1])
            if not 100 <= status < 200 or status == 101:
                break
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        has_body = method != "HEAD" and status not in {101, 204, 304}
        body = self._body(headers, deadline) if has_body else b""
        return None if body is None else Answer(status, headers, body)

    def is_closed(self) -> bool:
        """Whether the peer closes without further data. Raises NoAnswer if it does not close."""
        return not self._unread and not self._receive(time.monotonic() + self._timeout)

    def _body(self, headers: Mapping[str, str], deadline: float) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks(deadline)
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]), deadline)
        while self._receive(deadline):
            pass
        found, self._unread = self._unread, b""
        return found

    def _chunks(self, deadline: float) -> bytes | None:
        found = b""
        while (line := self._until(b"\r\n", deadline)) is not None:
            length = int(line.partition(b";")[0], 16)
            chunk = self._exactly(length + 2, deadline)
            if chunk is None or not length:
                return None if chunk is None else found
            found += chunk[:-2]
        return None

    def _until(self, end: bytes, deadline: float) -> bytes | None:
        while end not in self._unread:
            if not self._receive(deadline):
                return None
        found, _, self._unread = self._unread.partition(end)
        return found

    def _exactly(self, length: int, deadline: float) -> bytes | None:
        while len(self._unread) < length:
            if not self._receive(deadline):
                return None
        found, self._unread = self._unread[:length], self._unread[length:]
        return found

    def _receive(self, deadline: float) -> bool:
        """Reads more data. Returns False if the peer has closed."""
        if self._ended:
            return False
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            raise NoAnswer(f"open, after {self._unread[:300]!r}") from None
        except (ConnectionError, ssl.SSLError):
            data = b""
        self._unread += data
        self._ended = not data
        return bool(data)


def _queued(local: int, remote: int) -> bool:
    """Whether the socket at port `local`, connected to `remote`, has unread bytes (Linux)."""
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError):
            for line in Path(name).read_text().splitlines()[1:]:
                fields = line.split()
                ports = [int(place.rpartition(":")[2], 16) for place in fields[1:3]]
                if ports == [local, remote]:
                    return int(fields[4].partition(":")[2], 16) > 0
    return False


def ask(
    address: Address,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: object = None,
) -> Answer:
    """Sends a request on a new connection; returns the response. `body` is sent as JSON."""
    with Connection(address) as connection:
        connection.send(request(method, path, headers=headers, body=body))
        answer = connection.answer(method)
    assert answer is not None, f"{method} {path} was not answered"
    return answer


def request(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: object = None,
) -> bytes:
    """Returns the bytes of a request. `body` is sent as JSON."""
    content = b"" if body is None else json.dumps(body).encode()
    given = {"Host": "localhost", **(headers or {})}
    if body is not None:
        given |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content
