"""The application of these tests, which runs under uvicorn in two processes on one database."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
from websockets.asyncio.client import ClientConnection

from authapi.testing import PASSWORD
from tests.servers.forked import Forking
from tests.servers.process import free_port
from tests.web.websockets import Headers, WebSocketService

PROGRAM = """
from typing import Annotated
from uuid import UUID

import asyncio
import os

from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

from authapi import AuthAPI, Identity, current_identity, identity_is_live, live_messages

auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)
Caller = Annotated[Identity, Depends(current_identity())]
ended = []
noise = os.urandom(1 << 20)  # does not get smaller when it is compressed


@app.websocket("/live")
async def live(websocket: WebSocket, caller: Caller) -> None:
    await websocket.accept()
    await websocket.send_text("open")
    async for message in live_messages(websocket, caller):
        await websocket.send_text(f"echo {message}")
    ended.append(str(caller.user.id))


@app.websocket("/flood")
async def flood(websocket: WebSocket, caller: Caller) -> None:
    await websocket.accept()
    await websocket.send_text("open")
    try:
        async for _ in live_messages(websocket, caller):
            while True:
                await websocket.send_bytes(noise)
    finally:
        ended.append(str(caller.user.id))


@app.websocket("/both")
async def both(websocket: WebSocket, caller: Caller) -> None:
    async def push() -> None:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.01)

    await websocket.accept()
    await websocket.send_text("open")
    async with asyncio.TaskGroup() as tasks:
        pushing = tasks.create_task(push())
        async for _ in live_messages(websocket, caller):
            pass
        pushing.cancel()
    ended.append(str(caller.user.id))


@app.get("/stream")
async def stream(request: Request, caller: Caller) -> StreamingResponse:
    async def events():
        while await identity_is_live(request, caller):
            yield b"tick\\n"
            await asyncio.sleep(0.02)
        yield b"over\\n"

    return StreamingResponse(events())


@app.get("/watched")
async def watched() -> dict[str, object]:
    return {"open": len(auth.runtime.services.session_watch), "ended": ended}


@app.post("/staff/{act}/{user_id}")
async def staff(act: str, user_id: UUID) -> None:
    await getattr(auth.accounts, act)(user_id)
"""

_numbers = count()


@dataclass
class Account:
    """An account of the two processes."""

    email: str
    id: str
    password: str = PASSWORD


@dataclass
class Processes:
    """Two processes of one application on one database."""

    first: WebSocketService
    second: WebSocketService

    def account(self) -> Account:
        """Registers a new account."""
        email = f"user{next(_numbers)}@example.com"
        body = {"email": email, "password": PASSWORD}
        response = self.first.request("POST", "/register", json=body)
        assert response.status_code == 201, response.text
        return Account(email, response.json()["id"])

    def login(self, account: Account, strategy: str) -> Headers:
        """Logs in at the first process; returns the headers with the credential."""
        body = {"email": account.email, "password": account.password, "strategy": strategy}
        response = self.first.request("POST", "/login", json=body)
        assert response.status_code == 200, response.text
        if strategy == "session":
            return {"Cookie": response.headers["set-cookie"].partition(";")[0]}
        return {"Authorization": f"Bearer {response.json()['access_token']}"}

    def act(self, method: str, path: str, headers: Headers, **options: object) -> httpx.Response:
        """Sends a request to the second process."""
        own = {"Origin": self.second.origin} if "Cookie" in headers else {}
        response = self.second.request(method, path, headers={**headers, **own}, **options)
        assert response.is_success, response.text
        return response

    @asynccontextmanager
    async def open(
        self, headers: Headers, path: str = "/live", *, times: int = 1
    ) -> AsyncIterator[list[ClientConnection]]:
        """Opens WebSockets at the first process."""
        own = self.first.origin if "Cookie" in headers else None
        async with AsyncExitStack() as stack:
            sockets = []
            for _ in range(times):
                socket = await stack.enter_async_context(self.first.open(path, headers, own))
                assert await socket.recv() == "open"
                sockets.append(socket)
            yield sockets

    def watched(self) -> dict[str, object]:
        """What the first process watches, and the users whose handlers have ended."""
        found: dict[str, object] = self.first.request("GET", "/watched").json()
        return found


@contextmanager
def processes(
    folder: Path, forking: Forking, settings: Mapping[str, str], *options: str
) -> Iterator[Processes]:
    """Runs the application twice. No handler may fail."""
    (folder / "live.py").write_text(PROGRAM, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_CHEAP_HASHES": "true",
        "AUTHAPI_LIMIT_REGISTRATIONS": "1000/minute",
        **settings,
    }
    arguments = ["live:app", "--app-dir", str(folder), *options]
    with ExitStack() as stack:
        services = []
        for _ in range(2):
            port = free_port()
            process = forking.start(
                [*arguments, "--port", str(port)], environment, folder, "uvicorn"
            )
            stack.enter_context(process)
            service = WebSocketService(port, process)
            process.wait_ready(f"{service.origin}/health/ready", timeout=60)
            services.append(service)
        first, second = services
        yield Processes(first, second)
        for service in services:
            assert "Exception in ASGI" not in service.process.output(), service.process.output()
