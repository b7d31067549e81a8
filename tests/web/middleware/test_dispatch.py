"""Dispatch by path finds the route that the search of FastAPI finds."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from authapi import AuthAPI, create_app
from authapi.testing import Client, client
from authapi.web.middleware.dispatch import Dispatcher, Shortcut
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
    monkeypatch.setattr(Dispatcher, "shortcut", lambda *_: None)
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


Ask = Callable[[Client], Awaitable[httpx.Response]]
ASKED: dict[str, Ask] = {
    "plain": lambda api: api.get("/me"),
    "identity": lambda api: api.get("/me/identity"),
    "head": lambda api: api.head("/me"),
    "options": lambda api: api.options("/me"),
    "method": lambda api: api.put("/me"),
    "query": lambda api: api.get("/me?a=b"),
    "body": lambda api: api.request("GET", "/me", content=b"{}"),
    "origin": lambda api: api.get("/me", headers={"origin": "https://shop.example"}),
    "foreign": lambda api: api.get("/me", headers={"origin": "https://evil.example"}),
    "destination": lambda api: api.get("/me", headers={"sec-fetch-dest": "image"}),
    "two": lambda api: api.get("/me", headers=[("authorization", "a"), ("authorization", "b")]),
    "known": lambda api: api.get("/me", headers={"if-none-match": "*"}),
    "slash": lambda api: api.get("/me/"),
    "page": lambda api: api.get("/me", headers={"accept": "text/html"}),
}


AROUND = {"plain", "head", "query", "origin", "foreign", "destination", "known", "page"}
"""The requests that the shortcut answers."""


def comparable(answer: httpx.Response) -> tuple[object, ...]:
    """Returns what two answers to one request have in common."""
    given = answer.headers.get("x-request-id", "none")
    fields = [pair for pair in answer.headers.raw if pair[0] != b"x-request-id"]
    return answer.status_code, fields, answer.text.replace(given, "")


@pytest.fixture(params=["service", "guest"])
def application(request: pytest.FixtureRequest, make_settings: SettingsFactory) -> FastAPI:
    """An application with a CORS layer of authapi."""
    settings = make_settings(
        allowed_origins=["https://shop.example"], allow_reserved_addresses=True
    )
    if request.param == "service":
        return create_app(settings)
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    return app


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that take the shortcut."""
    paths, find = list[str](), Shortcut.__call__

    def noting(shortcut: Shortcut, scope: Scope) -> ASGIApp | None:
        found = find(shortcut, scope)
        if found is not None:
            paths.append(scope["path"])
        return found

    monkeypatch.setattr(Shortcut, "__call__", noting)
    return paths


async def test_the_shortcut_answers_as_the_application(
    application: FastAPI, taken: list[str]
) -> None:
    async with client(application) as api:
        user = await api.create_user(email="ann@example.com")
        for strategy in (None, "token", "session", "invalid"):
            if strategy == "invalid":
                api.headers["authorization"] = "Bearer aat_wrong"
            elif strategy is not None:
                await api.login(user, strategy=strategy)
            for name, ask in ASKED.items():
                taken.clear()
                short = comparable(await ask(api))
                assert bool(taken) == (name in AROUND), name
                taken.clear()
                application.dependency_overrides[check] = check
                assert comparable(await ask(api)) == short, name
                assert taken == []
                application.dependency_overrides.clear()


async def test_a_layer_of_the_application_sees_requests_for_our_routes(
    application: FastAPI, taken: list[str]
) -> None:
    seen = list[str]()

    async def note(request: Request, call_next: RequestResponseEndpoint) -> Response:
        seen.append(request.url.path)
        return await call_next(request)

    application.add_middleware(BaseHTTPMiddleware, dispatch=note)
    async with client(application) as api:
        for _ in range(2):
            assert (await api.get("/me")).status_code == 401
    # In the service, it is outside of our layers, which may go around what is inside of them.
    is_service = len(application.user_middleware) > 1
    assert (len(taken), seen) == (2 if is_service else 0, ["/me", "/me"])


@pytest.mark.parametrize("reason", [None, "debug", "handler", "limit"])
async def test_layers_of_fastapi_around_a_shortcut_are_left_out_if_they_do_nothing(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    app, passed, call = create_app(make_settings()), list[str](), ServerErrorMiddleware.__call__
    if reason == "debug":
        app.debug = True
    elif reason == "handler":
        app.add_exception_handler(500, lambda *_: Response())
    elif reason == "limit":
        app.max_body_size = 10_000

    async def note(
        layer: ServerErrorMiddleware, scope: Scope, receive: Receive, send: Send
    ) -> None:
        passed.append(scope["path"])
        await call(layer, scope, receive, send)

    async with client(app) as api:
        await api.get("/me")  # reads the routes
        monkeypatch.setattr(ServerErrorMiddleware, "__call__", note)
        for path in ("/me", "/me/sessions"):
            assert (await api.get(path)).status_code == 401
        assert (await api.head("/me")).status_code == 401
    others = ["/me/sessions", "/me"]
    assert passed == (others if reason is None else ["/me", *others])


async def test_a_router_whose_middleware_is_replaced_takes_no_shortcut(
    application: FastAPI, taken: list[str]
) -> None:
    async with client(application) as api:
        assert (await api.get("/me")).status_code == 401
        assert taken == ["/me"]
        dispatcher, seen = application.router.middleware_stack, list[str]()

        async def around(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await dispatcher(scope, receive, send)

        application.router.middleware_stack = around
        assert (await api.get("/me")).status_code == 401
        assert (taken, seen) == (["/me"], ["/me"])


async def test_metrics_name_the_route_of_a_shortcut(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(metrics_path="/metrics"))
    async with client(app) as api:
        await api.get("/me")
        text = (await api.get("/metrics")).text
    assert 'authapi_requests_total{method="GET",route="/me",status="401"} 1' in text
