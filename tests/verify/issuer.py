"""An issuer on loopback with configurable responses, which counts requests."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import parse_qs

from authapi.crypto.jwk import SigningKey
from tests.crypto import forgery
from tests.servers.web_server import WebServer

SUBJECT = "0190c0de-0000-7000-8000-000000000000"
AUDIENCE = "orders"
METADATA = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
JWKS = "/keys"
INTROSPECT = "/introspect"


@dataclass
class Reply:
    """The response of a path."""

    body: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Issuer:
    """The server, in a thread. `away` closes it like a killed process."""

    def __init__(self) -> None:
        self.key = forgery.new_key()
        self.asked: Counter[str] = Counter()
        self.forms: list[dict[str, str]] = []
        self.credentials: list[str | None] = []
        self.sent_headers: dict[str, str] = {}
        """The headers of the last request."""
        self.replies: dict[str, Reply | Callable[[dict[str, str]], Reply]] = {}
        self._arrived = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._port = 0
        self._server: WebServer | None = None
        self._open()
        self.url = f"http://127.0.0.1:{self._port}"
        self.publish(self.key)
        self.replies[METADATA] = Reply({"issuer": self.url, "jwks_uri": self.url + JWKS})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        self.away()

    def publish(self, *keys: SigningKey | Mapping[str, object], **headers: str) -> None:
        """Publishes these keys, with `headers`, in whose names `_` stands for `-`."""
        members = [dict(k.verifying.jwk) if isinstance(k, SigningKey) else dict(k) for k in keys]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies[JWKS] = Reply({"keys": members}, headers=named)

    def token(
        self,
        *,
        key: SigningKey | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Returns a valid token of SUBJECT with these claims and header members changed.

        None removes a claim, `...` removes a header member.
        """
        key = key or self.key
        now = forgery.NOW
        all_claims = {
            "iss": self.url,
            "sub": SUBJECT,
            "aud": AUDIENCE,
            "exp": now + 600,
            "iat": now,
            **claims,
        }
        head = {"alg": key.verifying.algorithm, "typ": "at+jwt", "kid": key.verifying.kid}
        kept = {name: value for name, value in all_claims.items() if value is not None}
        head = {name: value for name, value in (head | dict(header or {})).items() if value != ...}
        return forgery.forge(head, kept, key=key)

    async def is_asked(self) -> None:
        """Waits for the next request, which may not have its response yet."""
        while not await asyncio.to_thread(self._arrived.wait, 0.01):
            continue
        self._arrived.clear()

    def away(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self._thread.join()

    def back(self) -> None:
        """Listens on the same port again."""
        self._open()

    def _open(self) -> None:
        server = WebServer(("127.0.0.1", self._port), self._handler())
        self._server, self._port = server, server.server_port
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True
        )
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(self.path.partition("?")[2])
                self._answer({name: values[0] for name, values in query.items()})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                issuer.forms.append(form)
                issuer.credentials.append(self.headers["authorization"])
                self._answer(form)

            def _answer(self, form: dict[str, str]) -> None:
                path = self.path.partition("?")[0]
                issuer.asked[path] += 1
                issuer.sent_headers = dict(self.headers)
                issuer._arrived.set()
                issuer.may_answer.wait(30)
                found = issuer.replies.get(path, Reply({}, 404))
                reply = found if isinstance(found, Reply) else found(form)
                self.send_response(reply.status)
                for name, value in {
                    "content-length": str(len(reply.data)),
                    **reply.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):  # the client does not read long responses
                    self.wfile.write(reply.data)

            def log_message(self, *_: object) -> None:
                """Suppresses the log of requests."""

        return Handler
