"""Dispatch by path finds the route that the search of FastAPI finds."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authapi import AuthAPI, create_app
from authapi.testing import client
from authapi.web.middleware.dispatch import Dispatcher
from tests.conftest import SettingsFactory

METHODS = ("GET", "POST", "DELETE", "OPTIONS")
VALUES = ("00000000-0000-7000-8000-000000000000", "page.css")
STRANGE = (
    "/",
    "//",
    "*",
    "",
    "/nothing",
    "/me/nothing",
    "/me/",
    "/ME",
    "/account//",
    "/.well-known/x",
)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The routes that requests reach. Their handlers do not run."""
    reached: list[str] = []

    async def handle(route: APIRoute, scope: Scope, receive: Receive, send: Send) -> None:
        context = scope["fastapi"]["effective_route_context"]
        assert context.original_route is route
        methods = context.methods
        reached.append(f"{sorted(methods)} {context.path_format} {scope['method'] in methods}")
        await Response()(scope, receive, send)

    monkeypatch.setattr(APIRoute, "handle", handle)
    return reached


def paths_of(app: FastAPI) -> list[str]:
    paths: dict[str, None] = {}
    for context in iter_route_contexts(app.routes):
        path = str(context.path_format)
        for value in VALUES if "{" in path else ("",):
            parts = [value if part.startswith("{") else part for part in path.split("/")]
            bare = "/".join(parts)
            paths |= dict.fromkeys((bare, f"{bare}/", f"{bare}/x"))
    return [*paths, *STRANGE]


def dispatcher_of(app: FastAPI) -> Dispatcher:
    found = app.router.middleware_stack
    assert isinstance(found, Dispatcher)
    return found


async def check(app: FastAPI, found: list[str]) -> int:
    """Compares dispatch and search for each path and method. Returns how many reach a route."""
    dispatcher, routed = dispatcher_of(app), 0

    async def search(scope: Scope, receive: Receive, send: Send) -> None:
        entry = APIRouter(redirect_slashes=False)
        entry.routes.append(dispatcher.included)
        entry.default = dispatcher.others
        scope.setdefault("router", app.router)
        await entry(scope, receive, send)

    async with client(app) as api:
        for path in paths_of(app):
            for method in METHODS:
                answers = []
                for way in (dispatcher, search):
                    app.router.middleware_stack = way  # type: ignore[assignment]
                    found.clear()
                    status = (await api.request(method, path)).status_code
                    answers.append((status, list(found)))
                assert answers[0] == answers[1], (method, path)
                routed += bool(answers[0][1])
    return routed


async def test_each_request_to_the_service_reaches_the_route_of_a_search(
    make_settings: SettingsFactory, found: list[str]
) -> None:
    assert await check(create_app(make_settings()), found) > 200


async def test_each_request_to_a_guest_reaches_the_route_of_a_search(
    make_settings: SettingsFactory, found: list[str]
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    @app.get("/api/auth/me/nothing")
    @app.post("/api/auth/me")
    def own() -> None:
        """Of the application."""

    auth.install(app, prefix="/api/auth")
    assert await check(app, found) > 200


async def test_a_route_that_the_application_replaces_is_not_found_any_more(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/me")
    def me() -> str:
        return "mine"

    async with client(app) as api:
        for _ in range(2):
            assert (await api.get("/me")).json() == "mine"
            assert (await api.patch("/me", json={})).status_code == 401


@pytest.mark.parametrize("governs_app", [False, True])
async def test_a_websocket_of_the_application_at_a_path_of_ours_is_reached(
    make_settings: SettingsFactory, governs_app: bool
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    reached: list[Any] = []

    @app.websocket("/me")
    async def socket(socket: WebSocket) -> None:
        reached.append(socket.url.path)
        await socket.close()

    auth.install(app, governs_app=governs_app)
    async with client(app) as api:
        assert (await api.get("/me")).status_code == 401
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": "/me",
            "raw_path": b"/me",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "subprotocols": [],
            "state": {},
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "scheme": "ws",
            "http_version": "1.1",
        }
        await app(scope, receive, send)
    assert reached == ["/me"]
