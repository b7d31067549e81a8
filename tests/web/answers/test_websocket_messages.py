"""Refusals of WebSocket handshakes: under real servers, and by ASGI extension of the server."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from authapi import AuthAPI, User, current_user
from authapi.errors import StorageUnavailable
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.servers.forked import Forking
from tests.web.responses import PROBLEM_MEMBERS, SECURITY_HEADERS
from tests.web.websockets import Headers, WebSocketService, handshake, websocket_service

PROGRAM = """
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, WebSocket

from authapi import AuthAPI, User, current_user

auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app, governs_app=True)


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


@dataclass(frozen=True)
class Target:
    """A running service, and the headers with a token without scopes."""

    service: WebSocketService
    token: Headers


@pytest.fixture(scope="module", params=SERVERS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, forking: Forking
) -> Iterator[Target]:
    """The application under each server, with each WebSocket implementation."""
    options = ["--no-server-header", *SERVERS[request.param]]
    folder = tmp_path_factory.mktemp("websockets")
    settings = {"AUTHAPI_SCOPES": "a"}
    with websocket_service(PROGRAM, folder, forking, options=options, settings=settings) as service:
        body = {"name": "x", "scopes": []}
        made = service.request("POST", "/me/tokens", json=body, headers=service.login("jwt"))
        yield Target(service, {"Authorization": f"Bearer {made.json()['access_token']}"})
        output = service.process.output()
        assert "CANARY" not in output.replace('LookupError("CANARY")', "").replace(
            "LookupError: CANARY", ""
        )


def document(response: Response, status: int, code: str) -> dict[str, Any]:
    """Checks that a refusal equals the response of a route; returns its body."""
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


async def test_handshake_without_a_valid_credential_is_401(target: Target) -> None:
    for headers, extra in (
        ({}, ""),
        ({"Authorization": "Bearer x"}, ', error="invalid_token"'),
        ({"Cookie": "authapi=x"}, ""),
    ):
        response = await target.service.refusal("/live", headers)
        document(response, 401, "unauthenticated")
        bearer, cookie = response.headers.get_all("www-authenticate")
        assert bearer.startswith('Bearer realm="authapi", resource_metadata="http')
        assert bearer.endswith(f'/oauth-protected-resource"{extra}')
        assert cookie.startswith("Cookie ")


async def test_gates_refuse_the_handshake_with_their_response(target: Target) -> None:
    document(await target.service.refusal("/staff", target.token), 403, "superuser_required")
    scoped = await target.service.refusal("/scoped", target.token)
    document(scoped, 403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="a"' in scoped.headers["www-authenticate"]
    stale = await target.service.refusal("/fresh", target.token)
    document(stale, 401, "stale_authentication")
    assert "insufficient_user_authentication" in stale.headers.get_all("www-authenticate")[0]


async def test_other_refusals_of_the_handshake(target: Target) -> None:
    body = document(await target.service.refusal("/number/x"), 422, "validation_failed")
    assert body["errors"][0]["loc"] == ["path", "number"]
    for path in ("/nowhere", "/me", "/number/1/2"):
        document(await target.service.refusal(path), 404, "not_found")
    long = {"Authorization": "Bearer " + "x" * 7000, "X-A": "y" * 1500, "Cookie": "z" * 100}
    document(await target.service.refusal("/live", long), 401, "unauthenticated")
    teapot = await target.service.refusal("/refuses")
    assert (teapot.status_code, teapot.headers["x-more"]) == (418, "1")
    assert json.loads(teapot.body)["detail"] == "short and stout"
    fails = await target.service.refusal("/fails")
    document(fails, 500, "internal_error")
    assert b"CANARY" not in fails.body
    # A close by the application itself is passed on unchanged.
    own = await target.service.refusal("/closes")
    assert (own.status_code, own.body) == (403, b"")


async def test_duplicate_header_is_refused(target: Target) -> None:
    answer = target.service.send_lines(
        "GET /live HTTP/1.1",
        *("Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"),
        *("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"),
        *("Authorization: Bearer a", "Authorization: Bearer b"),
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "duplicate_header"


async def test_refusal_after_accept_is_a_close_code(target: Target) -> None:
    for path, headers, code, reason in (
        ("/accepted", {}, 4401, "unauthenticated"),
        ("/accepted", {"Authorization": "Bearer x"}, 4401, "unauthenticated"),
        ("/accepted/staff", target.token, 1008, "superuser_required"),
    ):
        async with target.service.open(path, headers) as found:
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
async def test_malformed_handshake_gets_a_response(
    target: Target, change: dict[str, str | None]
) -> None:
    fields = {**HANDSHAKE, **change}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    answer = target.service.send_lines("GET /live HTTP/1.1", *lines)
    # Some libraries ignore the error. Then the application refuses for lack of a credential.
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ", b"HTTP/1.1 426 "))
    assert answer.partition(b"\r\n\r\n")[2]


# By ASGI extension of the server ------------------------------------------------------------------


EXTENSION: dict[str, object] = {"websocket.http.response": {}}


@pytest.fixture
async def app_and_api(make_settings: SettingsFactory) -> AsyncIterator[tuple[FastAPI, Client]]:
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

    auth.install(app, governs_app=True)
    async with client(app) as api:
        yield app, api


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}], ids=str)
async def test_without_the_extension_the_refusal_is_a_close_code(
    app_and_api: tuple[FastAPI, Client], extensions: dict[str, object] | None
) -> None:
    app, _ = app_and_api
    for path, headers, code, reason in (
        ("/live", {}, 4401, "unauthenticated"),
        ("/live", {"authorization": "x" * 9000}, 1008, "headers"),
        ("/moved", {}, 1008, "forbidden"),
        ("/nowhere", {}, 1000, ""),
    ):
        [message] = await handshake(app, path, headers, extensions=extensions)
        closed = {"type": "websocket.close", "code": code, "reason": reason}
        assert message == closed, path


async def test_unavailable_database_is_503_or_1013(
    app_and_api: tuple[FastAPI, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, api = app_and_api
    cookie = (await api.login(await api.create_user())).headers["set-cookie"].partition(";")[0]

    def unavailable() -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(api.services.database, "read", unavailable)
    start, body = await handshake(app, "/live", {"cookie": cookie}, extensions=EXTENSION)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["code"] == "database_unavailable"
    [closed] = await handshake(app, "/live", {"cookie": cookie}, extensions={})
    assert (closed["code"], closed["reason"]) == (1013, "database_unavailable")


async def test_exception_after_the_response_started_is_raised(
    app_and_api: tuple[FastAPI, Client],
) -> None:
    app, _ = app_and_api
    start, _ = await handshake(app, "/fails/before", extensions=EXTENSION)
    assert start["status"] == 500
    for path, extensions in (("/fails/after", EXTENSION), ("/fails/before", {})):
        with pytest.raises(LookupError):
            await handshake(app, path, extensions=extensions)


async def test_every_refusal_has_its_own_request_id(app_and_api: tuple[FastAPI, Client]) -> None:
    app, _ = app_and_api
    seen = set()
    for path in ("/live", "/nowhere", "/moved", "/fails/before", "/me"):
        start, body = await handshake(app, path, extensions=EXTENSION)
        ids = [value for name, value in start["headers"] if name == b"x-request-id"]
        assert [json.loads(body["body"])["request_id"].encode()] == ids
        seen.add(ids[0])
    assert len(seen) == 5
