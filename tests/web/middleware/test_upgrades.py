"""With an unsafe server, a request with `Upgrade` is the last one of its connection."""

import logging
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authapi import AuthAPI, Settings
from authapi.testing import client
from authapi.verify import RemoteJWT, ResourceServer
from authapi.web.server.limits import PROTOCOL_KEY
from tests.conftest import SettingsFactory
from tests.web.asgi import RawHeaders, ask, scope_of
from tests.web.operations import operations

UPGRADE = [(b"connection", b"Upgrade"), (b"upgrade", b"h2c")]
BODY = [(b"content-length", b"9"), (b"content-type", b"application/json")]
CHUNKED = [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")]
ORIGIN = "https://app.example"


class Outside:
    """A middleware that the application adds later; it fails or answers by itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/outside":
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send(start)
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "http" and scope["path"] == "/broken":
            raise LookupError
        else:
            await self.app(scope, receive, send)


def installed(settings: Settings) -> FastAPI:
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_methods=["PUT"])
    app.add_middleware(Outside)

    @app.post("/own")
    async def own() -> str:
        return "own"

    return app


@pytest.fixture
async def app(make_settings: SettingsFactory) -> AsyncIterator[FastAPI]:
    found = installed(make_settings())
    async with client(found):
        yield found


def connection_of(headers: object) -> list[str]:
    assert hasattr(headers, "get_list")
    found: list[str] = headers.get_list("connection")
    return found


@pytest.mark.parametrize(
    "headers",
    [
        UPGRADE,
        UPGRADE[::-1],
        [(b"upgrade", b"websocket")],
        [(b"upgrade", b"")],
        [(b"upgrade", b"a"), (b"upgrade", b"b"), (b"connection", b"close, upgrade")],
    ],
)
async def test_every_response_closes_the_connection(app: FastAPI, headers: RawHeaders) -> None:
    seen = [(operation.method, operation.path.encode()) for operation in operations(app)]
    seen += [("POST", b"/own"), ("GET", b"/outside"), ("GET", b"/nothing"), ("PUT", b"/me")]
    for method, path in seen:
        for more in ([], BODY, CHUNKED):
            answer = await ask(app, method, path, headers=[*headers, *more], body=[b'{"a": 1}x'])
            assert connection_of(answer.headers) == ["close"], (method, path)


async def test_responses_of_outer_middleware_close_it(app: FastAPI) -> None:
    preflight = [
        (b"origin", ORIGIN.encode()),
        (b"access-control-request-method", b"PUT"),
        *(*UPGRADE, *BODY),
    ]
    answer = await ask(app, "OPTIONS", b"/own", headers=preflight, body=[b"x" * 9])
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert connection_of(answer.headers) == ["close"]
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(LookupError):  # Starlette answers 500 and raises the exception again
        await app(scope_of("GET", b"/broken", headers=UPGRADE), receive, send)
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("framing", [BODY, CHUNKED])
async def test_own_routes_refuse_a_body_with_upgrade(app: FastAPI, framing: RawHeaders) -> None:
    for operation in operations(app):
        if operation.path == "/own":
            continue
        path = operation.path.encode()
        answer = await ask(app, operation.method, path, headers=[*UPGRADE, *framing], body=[b""])
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    own = await ask(app, "POST", b"/own", headers=[*UPGRADE, *framing], body=[b""])
    assert (own.status_code, connection_of(own.headers)) == (200, ["close"])
    empty = [*UPGRADE, (b"content-length", b"0")]
    assert (await ask(app, "GET", b"/health/live", headers=empty)).status_code == 200


async def test_connect_closes_the_connection(app: FastAPI) -> None:
    answer = await ask(app, "CONNECT", b"/me", headers=BODY, body=[b""])
    assert connection_of(answer.headers) == ["close"]


async def test_other_requests_keep_the_connection_open(app: FastAPI) -> None:
    for headers in ([], [(b"connection", b"upgrade")], [(b"connection", b"keep-alive")]):
        for path in (b"/health/live", b"/outside", b"/me"):
            answer = await ask(app, "GET", path, headers=headers)
            assert connection_of(answer.headers) == []


async def test_resource_server_closes_it_too() -> None:
    auth = ResourceServer(RemoteJWT(issuer="https://auth.example.com", audience="orders"))
    app = FastAPI()
    auth.install(app)
    for path in (b"/health/live", b"/nothing"):
        answer = await ask(app, "GET", path, headers=[*UPGRADE, *BODY], body=[b""])
        assert connection_of(answer.headers) == ["close"]
        assert answer.status_code == (400 if path == b"/health/live" else 404)


async def test_with_http_protocol_nothing_is_refused(app: FastAPI) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"email": 1}', "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [*UPGRADE, (b"content-length", b"12"), (b"content-type", b"application/json")]
    scope = scope_of("POST", b"/login", headers=headers)
    await app({**scope, "extensions": {PROTOCOL_KEY: {}}}, receive, send)
    assert sent[0]["status"] == 422
    assert b"connection" not in dict(sent[0]["headers"])


class Cycle:
    """Replaces uvicorn's object for one request."""

    async def send(self, message: Message) -> None:
        pass


Cycle.__module__ = "uvicorn.protocols.http.httptools_impl"


async def test_first_request_warns_about_an_unsafe_server(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = scope_of("GET", b"/health/live")
    with caplog.at_level(logging.WARNING, "authapi"):
        await app({**scope, "extensions": {PROTOCOL_KEY: {}}}, receive, Cycle().send)
        assert not caplog.records
        for _ in range(2):
            await app({**scope}, receive, Cycle().send)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--http authapi:HTTPProtocol" in caplog.text
