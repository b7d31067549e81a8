"""WebSocket handshakes with an application under uvicorn, and with one in this process."""

import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.typing import Origin

from authapi.testing import PASSWORD
from tests.servers.forked import Forking
from tests.servers.process import ServeProcess, free_port
from tests.web.asgi import scope_of

Headers = dict[str, str]


@dataclass(frozen=True)
class WebSocketService:
    """A running service with one account."""

    port: int
    process: ServeProcess
    email: str = "alice@example.com"

    @property
    def origin(self) -> str:
        """The origin of the service's own pages."""
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, **options: object) -> httpx.Response:
        """Sends an HTTP request to the service."""
        with httpx.Client(base_url=self.origin, trust_env=False, timeout=20) as client:
            return client.request(method, path, **options)  # type: ignore[arg-type]  # handed on

    def login(self, strategy: str) -> Headers:
        """Logs in; returns the headers with the credential."""
        body = {"email": self.email, "password": PASSWORD, "strategy": strategy}
        response = self.request("POST", "/login", json=body)
        if strategy == "session":
            return {"Cookie": response.headers["set-cookie"].partition(";")[0]}
        return {"Authorization": f"Bearer {response.json()['access_token']}"}

    @asynccontextmanager
    async def open(
        self, path: str, headers: Headers, origin: str | None = None
    ) -> AsyncIterator[ClientConnection]:
        """Opens a WebSocket to `path`."""
        async with connect(
            f"ws://127.0.0.1:{self.port}{path}",
            origin=None if origin is None else Origin(origin),
            additional_headers=headers,
            proxy=None,
            open_timeout=20,
        ) as websocket:
            yield websocket

    async def refusal(
        self, path: str, headers: Headers | None = None, origin: str | None = None
    ) -> Response:
        """Returns the HTTP response that refuses the handshake."""
        with pytest.raises(InvalidStatus) as caught:
            async with self.open(path, headers or {}, origin):
                pass
        return caught.value.response

    def send_lines(self, *lines: str) -> bytes:
        """Sends a request as raw lines; returns all bytes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))
            response = b""
            while data := connection.recv(65536):
                response += data
        return response


@contextmanager
def websocket_service(
    program: str,
    folder: Path,
    forking: Forking,
    *,
    options: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Iterator[WebSocketService]:
    """Runs `program`, a module with an application `app`, under uvicorn with `options`.

    `settings` are environment variables. Registers the account of the service.
    """
    port = free_port()
    (folder / "live.py").write_text(program, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_CHEAP_HASHES": "true",
        **(settings or {}),
    }
    arguments = ["live:app", "--app-dir", str(folder), "--port", str(port), *options]
    with forking.start(arguments, environment, folder, "uvicorn") as process:
        service = WebSocketService(port, process)
        process.wait_ready(f"{service.origin}/health/ready", timeout=60)
        account = {"email": service.email, "password": PASSWORD}
        assert service.request("POST", "/register", json=account).status_code == 201
        yield service


async def handshake(
    app: FastAPI,
    path: str,
    headers: Headers | None = None,
    *,
    extensions: Mapping[str, object] | None = None,
) -> list[Message]:
    """Returns the messages that `app` sends for a handshake.

    `extensions` are the ASGI extensions of the server; None if the scope has no such member.
    """
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = scope_of("GET", path.encode(), headers=raw, kind="websocket")
    if extensions is not None:
        scope["extensions"] = extensions
    incoming: list[Message] = [{"type": "websocket.connect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1005}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent
