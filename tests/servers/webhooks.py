"""A receiver of webhooks: a real HTTP server that answers what it is told to."""

import base64
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.servers.process import free_port

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The event in it."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def is_signed(self) -> bool:
        """Whether whoever knows the secret has signed exactly this, computed here once more."""
        key = base64.b64decode(SECRET.split("_", 1)[1])
        names = ("webhook-id", "webhook-timestamp")
        signed = b".".join([*(self.headers[name].encode() for name in names), self.body])
        expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return hmac.compare_digest(self.headers["webhook-signature"], expected)


@dataclass
class Receiver:
    """Listens on a port of its own, which stays the same when it is stopped and started."""

    port: int = field(default_factory=free_port)
    status: int = 204
    location: str | None = None
    received: list[Received] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    """Answers wait for it."""
    _server: ThreadingHTTPServer | None = None

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
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hooks"

    def start(self) -> None:
        """Listen."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append(Received(self.path, headers, body))
                outer.released.wait(10)
                try:
                    self.send_response(outer.status)
                    if outer.location is not None:
                        self.send_header("Location", outer.location)
                    self.end_headers()
                    # More than anybody reads.
                    self.wfile.write(b"x" * 100_000 if outer.status != 204 else b"")
                except OSError:
                    pass  # whoever asked has gone

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
