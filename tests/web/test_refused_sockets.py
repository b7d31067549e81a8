"""A WebSocket that is refused: what a client of a real server reads, and what a server is told."""

import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from starlette.types import Message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from authapi import AuthAPI, User, current_user
from authapi.errors import StorageUnavailable
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.servers.process import ServeProcess, free_port
from tests.web.answers import PROBLEM_MEMBERS, SECURITY_HEADERS
from tests.web.raw import scope_of

PROGRAM = """
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, WebSocket

from authapi import AuthAPI, User, current_user

auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)


async def accept(websocket: WebSocket) -> None:
    await websocket.accept()


def fail() -> None:
    raise LookupError("CANARY")


def refuse() -> None:
    raise HTTPException(418, "short and stout", headers={"X-More": "1"})


for path, dependencies in {
    "/live": [current_user()],
    "/staff": [current_user(superuser=True)],
    "/scoped": [current_user(scopes={"a"})],
    "/fresh": [current_user(fresh=timedelta(0))],
    "/fails": [fail],
    "/refuses": [refuse],
    "/accepted": [accept, current_user()],
    "/accepted/staff": [accept, current_user(superuser=True)],
}.items():

    @app.websocket(path, dependencies=[Depends(item) for item in dependencies])
    async def handle(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()


@app.websocket("/number/{number}")
async def numbered(websocket: WebSocket, number: int) -> None:
    await websocket.accept()


@app.websocket("/closes")
async def closes(websocket: WebSocket) -> None:
    await websocket.close(4000, "mine")
"""

SERVERS = {
    "uvicorn": [],
    "uvicorn-websockets": ["--ws", "websockets"],
    "uvicorn-h11": ["--http", "h11", "--ws", "websockets-sansio"],
    "HTTPProtocol": ["--http", "authapi:HTTPProtocol"],
    "HTTPProtocol-websockets": ["--http", "authapi:HTTPProtocol", "--ws", "websockets"],
}
Headers = dict[str, str]


@dataclass(frozen=True)
class Service:
    """A running service, and a token of an account there."""

    port: int
    token: Headers

    @asynccontextmanager
    async def open(self, path: str, headers: Headers) -> AsyncIterator[ClientConnection]:
        """A WebSocket to `path`."""
        url = f"ws://127.0.0.1:{self.port}{path}"
        async with connect(url, additional_headers=headers, proxy=None, open_timeout=20) as found:
            yield found

    async def refusal(self, path: str, headers: Headers | None = None) -> Response:
        """The HTTP response that refuses the handshake."""
        with pytest.raises(InvalidStatus) as caught:
            async with self.open(path, headers or {}):
                pass
        return caught.value.response

    def answered(self, *lines: str) -> bytes:
        """What comes back for a request as bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return answer


@pytest.fixture(scope="module", params=SERVERS)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """An application under each server, with each implementation of WebSockets."""
    folder, port = tmp_path_factory.mktemp("sockets"), free_port()
    (folder / "live.py").write_text(PROGRAM, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_SCOPES": "a",
    }
    command = [sys.executable, "-m", "uvicorn", "live:app", "--app-dir", str(folder)]
    command += ["--port", str(port), "--no-server-header", *SERVERS[request.param]]
    with ServeProcess(command, environment, folder) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_ready(f"{url}/health/ready", timeout=60)
        account = {"email": "alice@example.com", "password": PASSWORD}
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as http:
            assert http.post("/register", json=account).status_code == 201
            told = http.post("/login", json={**account, "strategy": "jwt"}).json()
            made = {"authorization": f"Bearer {told['access_token']}"}
            body = {"name": "x", "scopes": []}
            weak = http.post("/me/tokens", json=body, headers=made).json()
        yield Service(port, {"Authorization": f"Bearer {weak['access_token']}"})
        assert "CANARY" not in process.output().replace('LookupError("CANARY")', "").replace(
            "LookupError: CANARY", ""
        )


def document(response: Response, status: int, code: str) -> dict[str, Any]:
    """Hold a refusal against that of a route, and give its body."""
    assert response.status_code == status
    headers = response.headers
    for name, value in {**SECURITY_HEADERS, "cache-control": "no-store"}.items():
        assert headers.get_all(name) == [value]
    assert headers.get_all("content-type") == ["application/problem+json"]
    assert headers.get_all("content-length") == [str(len(response.body))]
    body: dict[str, Any] = json.loads(response.body)
    assert body.keys() >= PROBLEM_MEMBERS
    assert (body["status"], body["code"]) == (status, code)
    assert headers.get_all("x-request-id") == [body["request_id"]]
    return body


async def test_without_a_good_credential(service: Service) -> None:
    for headers, extra in (
        ({}, ""),
        ({"Authorization": "Bearer x"}, ', error="invalid_token"'),
        ({"Cookie": "authapi=x"}, ""),
    ):
        response = await service.refusal("/live", headers)
        document(response, 401, "unauthenticated")
        bearer, cookie = response.headers.get_all("www-authenticate")
        assert bearer.startswith('Bearer realm="authapi", resource_metadata="http')
        assert bearer.endswith(f'/oauth-protected-resource"{extra}')
        assert cookie.startswith("Cookie ")


async def test_a_gate_refuses_with_its_own_answer(service: Service) -> None:
    document(await service.refusal("/staff", service.token), 403, "superuser_required")
    scoped = await service.refusal("/scoped", service.token)
    document(scoped, 403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="a"' in scoped.headers["www-authenticate"]
    stale = await service.refusal("/fresh", service.token)
    document(stale, 401, "stale_authentication")
    assert "insufficient_user_authentication" in stale.headers.get_all("www-authenticate")[0]


async def test_what_others_than_gates_refuse(service: Service) -> None:
    body = document(await service.refusal("/number/x"), 422, "validation_failed")
    assert body["errors"][0]["loc"] == ["path", "number"]
    for path in ("/nowhere", "/me", "/number/1/2"):
        document(await service.refusal(path), 404, "not_found")
    long = {"Authorization": "Bearer " + "x" * 7000, "X-A": "y" * 1500, "Cookie": "z" * 100}
    document(await service.refusal("/live", long), 401, "unauthenticated")
    teapot = await service.refusal("/refuses")
    assert (teapot.status_code, teapot.headers["x-more"]) == (418, "1")
    assert json.loads(teapot.body)["detail"] == "short and stout"
    fails = await service.refusal("/fails")
    document(fails, 500, "internal_error")
    assert b"CANARY" not in fails.body
    # What the application closes itself is its own word.
    own = await service.refusal("/closes")
    assert (own.status_code, own.body) == (403, b"")


async def test_two_headers_where_one_may_be(service: Service) -> None:
    answer = service.answered(
        "GET /live HTTP/1.1",
        *("Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"),
        *("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"),
        *("Authorization: Bearer a", "Authorization: Bearer b"),
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "duplicate_header"


async def test_after_it_was_accepted_the_code_tells(service: Service) -> None:
    for path, headers, code, reason in (
        ("/accepted", {}, 4401, "unauthenticated"),
        ("/accepted", {"Authorization": "Bearer x"}, 4401, "unauthenticated"),
        ("/accepted/staff", service.token, 1008, "superuser_required"),
    ):
        async with service.open(path, headers) as found:
            with pytest.raises(ConnectionClosed) as caught:
                await found.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)


HANDSHAKE = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Key": "x"},
        {"Sec-WebSocket-Key": "CANARY"},
        {"Sec-WebSocket-Version": None},
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Extensions": "CANARY; =;"},
        {"Host": None},
    ],
    ids=str,
)
async def test_a_malformed_handshake_gets_an_answer(
    service: Service, change: dict[str, str | None]
) -> None:
    fields = {**HANDSHAKE, **change}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    answer = service.answered("GET /live HTTP/1.1", *lines)
    # Some libraries look past a fault: then the application refuses, for want of a credential.
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ", b"HTTP/1.1 426 "))
    assert answer.partition(b"\r\n\r\n")[2]


# What the server is told --------------------------------------------------------------------------


EXTENSION: dict[str, object] = {"websocket.http.response": {}}


async def shake(
    app: FastAPI, path: str, *, extensions: dict[str, object] | None, **headers: str
) -> list[Message]:
    """What the application sends for a handshake, to a server with these ASGI extensions."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
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


@pytest.fixture
async def house(make_settings: SettingsFactory) -> AsyncIterator[tuple[FastAPI, Client]]:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    @app.websocket("/live")
    async def live(websocket: WebSocket, user: Annotated[User, Depends(current_user())]) -> None:
        await websocket.accept()

    @app.websocket("/moved")
    async def moved(websocket: WebSocket) -> None:
        raise HTTPException(302, headers={"location": "/live"})

    @app.websocket("/fails/{when}")
    async def fails(websocket: WebSocket, when: str) -> None:
        if when == "after":
            await websocket.accept()
        raise LookupError

    auth.install(app)
    async with client(app) as api:
        yield app, api


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}], ids=str)
async def test_a_server_without_the_extension_closes(
    house: tuple[FastAPI, Client], extensions: dict[str, object] | None
) -> None:
    app, _ = house
    for path, headers, code, reason in (
        ("/live", {}, 4401, "unauthenticated"),
        ("/live", {"authorization": "x" * 9000}, 1008, "headers"),
        ("/moved", {}, 1008, "forbidden"),
        ("/nowhere", {}, 1000, ""),
    ):
        [message] = await shake(app, path, extensions=extensions, **headers)
        closed = {"type": "websocket.close", "code": code, "reason": reason}
        assert message == closed, path


async def test_a_database_that_is_away(
    house: tuple[FastAPI, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, api = house
    cookie = (await api.login(await api.create_user())).headers["set-cookie"].partition(";")[0]

    def away() -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(api.services.database, "read", away)
    start, body = await shake(app, "/live", extensions=EXTENSION, cookie=cookie)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["code"] == "database_unavailable"
    [closed] = await shake(app, "/live", extensions={}, cookie=cookie)
    assert (closed["code"], closed["reason"]) == (1013, "database_unavailable")


async def test_what_fails_after_the_answer_began_is_the_servers(
    house: tuple[FastAPI, Client],
) -> None:
    app, _ = house
    start, _ = await shake(app, "/fails/before", extensions=EXTENSION)
    assert start["status"] == 500
    for path, extensions in (("/fails/after", EXTENSION), ("/fails/before", {})):
        with pytest.raises(LookupError):
            await shake(app, path, extensions=extensions)


async def test_a_request_id_for_each(house: tuple[FastAPI, Client]) -> None:
    app, _ = house
    seen = set()
    for path in ("/live", "/nowhere", "/moved", "/fails/before", "/me"):
        start, body = await shake(app, path, extensions=EXTENSION)
        ids = [value for name, value in start["headers"] if name == b"x-request-id"]
        assert [json.loads(body["body"])["request_id"].encode()] == ids
        seen.add(ids[0])
    assert len(seen) == 5
