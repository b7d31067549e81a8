"""Receivers of webhooks: a real HTTP server with configurable responses, and one in memory."""

import base64
import contextlib
import hashlib
import hmac
import json
import select
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from tests.servers.process import free_port

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
Manner = Literal["answers", "hangs", "drips"]
_DRIP = 0.5
"""Seconds between two header lines of a receiver with `drips`."""
_LONGEST = 60
"""Seconds after which a receiver that does not respond closes a connection."""


@dataclass
class Received:
    """One received request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.time)
    """The time of arrival, in seconds since 1970."""

    @property
    def document(self) -> dict[str, Any]:
        """The event in the body."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def is_signed(self) -> bool:
        """Whether the signature is valid for this secret, computed independently."""
        key = base64.b64decode(SECRET.split("_", 1)[1])
        names = ("webhook-id", "webhook-timestamp")
        signed = b".".join([*(self.headers[name].encode() for name in names), self.body])
        expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return hmac.compare_digest(self.headers["webhook-signature"], expected)


@dataclass
class Receiver:
    """Listens on a port that stays the same across `stop` and `start`."""

    port: int = field(default_factory=free_port)
    status: int = 204
    location: str | None = None
    manner: Manner = "answers"
    """`hangs` reads the request and sends nothing. `drips` sends header lines without end."""
    delay: float = 0.0
    """Seconds between request and response."""
    received: list[Received] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    """Responses wait for this event."""
    most: int = 0
    """The highest number of concurrent requests."""
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _server: "_Server | None" = None

    def __post_init__(self) -> None:
        self.released.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the receiver."""
        return f"http://127.0.0.1:{self.port}/hooks"

    def start(self) -> None:
        """Starts listening."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append(Received(self.path, headers, body))
                with contextlib.suppress(OSError):  # the client has closed the connection
                    with outer._in_progress():
                        outer._wait(self)
                    outer._answer(self)

            def log_message(self, *_: object) -> None:
                return None

        self._stopped.clear()
        self._server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def stop(self) -> None:
        """Stops listening."""
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextlib.contextmanager
    def _in_progress(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
            self.most = max(self.most, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def _wait(self, to: BaseHTTPRequestHandler) -> None:
        self.released.wait(10)
        if self.manner == "answers":
            self._stopped.wait(self.delay)
        else:
            self._withhold(to)

    def _answer(self, to: BaseHTTPRequestHandler) -> None:
        if self.manner == "answers":
            to.send_response(self.status)
            if self.location is not None:
                to.send_header("Location", self.location)
            to.end_headers()
            # A body larger than one read of a client.
            to.wfile.write(b"x" * 100_000 if self.status != 204 else b"")

    def _withhold(self, to: BaseHTTPRequestHandler) -> None:
        """Sends nothing, or single lines, until the client closes the connection."""
        to.close_connection = True
        began = dripped = time.monotonic()
        while time.monotonic() < began + _LONGEST and not self._stopped.is_set():
            if select.select([to.connection], [], [], 0.02)[0]:
                return
            if self.manner == "drips" and time.monotonic() > dripped + _DRIP:
                to.wfile.write(b"X-Drip: 1\r\n" if dripped > began else b"HTTP/1.1 204 OK\r\n")
                dripped = time.monotonic()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Large enough for a burst: TCP retries a connection that does not fit only after a second.
    request_queue_size = 128


@dataclass
class Post:
    """Answers requests to each URL with a status, or not at all."""

    statuses: dict[str, int]
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    async def __call__(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        self.sent.append((url, body))
        if url not in self.statuses:
            raise OSError("no answer")
        return self.statuses[url]

    def open(self) -> None:
        return None

    async def close(self) -> None:
        return None
