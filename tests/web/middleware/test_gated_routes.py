"""The shorter way of routes with gates: its answers are those of FastAPI, and when it is taken."""

import inspect
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial, wraps
from typing import Annotated, Any

import httpx
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
    routing,
)
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute, RouteContext
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from authapi import AuthAPI, Identity, User, current_identity, current_user
from authapi.errors import InvalidCredential
from authapi.strategies.base import Challenge, Strategy
from authapi.testing import PASSWORD, Client, client
from authapi.web import installation
from authapi.web.middleware import gated_routes
from authapi.web.middleware.gated_routes import shorten_routes
from tests.conftest import SettingsFactory

Caller = Annotated[User, Depends(current_user())]
Guest = Annotated[User | None, Depends(current_user(optional=True))]

_REQUEST_ID = re.compile(r'"request_id": "[0-9a-f]+"')

Found = tuple[str, str, tuple[int, str], list[tuple[bytes, bytes]], tuple[str, ...]]
"""Method, path, status and body, header fields, and what has happened."""

Shape = Callable[[FastAPI], None]
_SHAPES: dict[str, Shape] = {}
SHORT = (
    *("plain", "raw", "status", "model", "no_content", "text_class", "sync", "two_gates"),
    *("twice", "identity", "optional", "only_guarded", "request", "connection", "in_router"),
    *("parameters", "later_dependency", "yields", "response", "tasks", "own_tasks", "refuses"),
    *("fails", "unfit", "unfit_sync", "limited", "nested_router", "wrapped", "several_methods"),
    *("scopes", "middle_gate"),
    "superusers",  # refused before FastAPI reads the body
)
"""The routes that take the shorter way; all others take FastAPI's."""


class Person(BaseModel):
    name: str
    age: int | None = None


def shape(add: Shape) -> Shape:
    """Registers a route, which is added at `/` and the name of the function."""
    _SHAPES[add.__name__] = add
    return add


def log(request: Request, entry: str) -> None:
    """Notes what has happened, in order."""
    request.app.state.log.append(entry)


@shape
def plain(app: FastAPI) -> None:
    @app.get("/plain")
    async def route(user: Caller) -> dict[str, str]:
        return {"email": user.email}


@shape
def raw(app: FastAPI) -> None:
    @app.get("/raw")
    async def route(user: Caller) -> Response:
        return PlainTextResponse(user.email, 203, {"x-raw": "yes"})


@shape
def status(app: FastAPI) -> None:
    @app.get("/status", status_code=202)
    async def route(user: Caller) -> Any:
        return {"at": user.created_at.year > 2000, "tuple": (1, 2)}


@shape
def model(app: FastAPI) -> None:
    @app.get("/model", response_model_exclude_none=True, response_model_exclude={"hidden"})
    async def route(user: Caller) -> Person:
        return Person(name=user.email)


@shape
def no_content(app: FastAPI) -> None:
    @app.get("/no_content", status_code=204)
    async def route(user: Caller) -> None:
        return None


@shape
def text_class(app: FastAPI) -> None:
    @app.get("/text_class", response_class=PlainTextResponse)
    async def route(user: Caller) -> str:
        return user.email


@shape
def sync(app: FastAPI) -> None:
    @app.get("/sync")
    def route(user: Caller) -> dict[str, str]:
        return {"email": user.email}


@shape
def two_gates(app: FastAPI) -> None:
    @app.get("/two_gates", dependencies=[Depends(current_user(verified=True))])
    async def route(user: Caller) -> str:
        return user.email


@shape
def twice(app: FastAPI) -> None:
    @app.get("/twice")
    async def route(user: Caller, again: Caller) -> bool:
        return user is again


@shape
def identity(app: FastAPI) -> None:
    @app.get("/identity")
    async def route(identity: Annotated[Identity, Depends(current_identity("token"))]) -> str:
        return identity.strategy


@shape
def optional(app: FastAPI) -> None:
    @app.get("/optional")
    async def route(user: Guest) -> str:
        return "none" if user is None else user.email


@shape
def only_guarded(app: FastAPI) -> None:
    @app.get("/only_guarded", dependencies=[Depends(current_user())])
    async def route() -> str:
        return "guarded"


@shape
def request(app: FastAPI) -> None:
    @app.get("/request/{part}")
    async def route(req: Request, user: Caller) -> str:
        return f"{req.path_params} {req.url.query} {sorted(req.scope['path_params'])}"


@shape
def connection(app: FastAPI) -> None:
    @app.get("/connection")
    async def route(connection: HTTPConnection, user: Caller) -> str:
        return connection.url.path


@shape
def in_router(app: FastAPI) -> None:
    router = APIRouter(prefix="/in_router", dependencies=[Depends(current_user())])

    @router.get("")
    async def route(user: Caller) -> str:
        return user.email

    app.include_router(router)


@shape
def nested_router(app: FastAPI) -> None:
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/nested_router")

    @inner.get("/{number}")
    async def route(number: int, user: Caller) -> int:
        return number

    outer.include_router(inner)
    app.include_router(outer, responses={418: {}})


@shape
def parameters(app: FastAPI) -> None:
    @app.get("/parameters/{number}")
    async def route(
        number: int,
        user: Caller,
        limit: Annotated[int, Query(le=5)] = 3,
        x_list: Annotated[list[str] | None, Header()] = None,
    ) -> list[object]:
        return [number, limit, x_list, user.email]


async def nothing_here(request: Request, user: Caller) -> str:
    """A dependency of a dependency has a gate."""
    log(request, "nothing_here")
    return user.email


@shape
def later_dependency(app: FastAPI) -> None:
    @app.get("/later_dependency")
    async def route(user: Caller, email: Annotated[str, Depends(nothing_here)]) -> bool:
        return user.email == email


@shape
def earlier_dependency(app: FastAPI) -> None:
    @app.get("/earlier_dependency")
    async def route(email: Annotated[str, Depends(nothing_here)], user: Caller) -> bool:
        return user.email == email


@shape
def middle_gate(app: FastAPI) -> None:
    @app.get("/middle_gate")
    async def route(
        user: Caller,
        email: Annotated[str, Depends(nothing_here)],
        identity: Annotated[Identity, Depends(current_identity())],
    ) -> bool:
        return user.email == email == identity.user.email


async def opened(request: Request) -> AsyncIterator[str]:
    """A dependency that is closed after the response, and sees its exceptions."""
    log(request, "opened")
    try:
        yield "open"
    except HTTPException as error:
        log(request, f"saw {error.status_code}")
        raise
    finally:
        log(request, "closed")


@shape
def yields(app: FastAPI) -> None:
    @app.get("/yields")
    async def route(
        request: Request, user: Caller, opened: Annotated[str, Depends(opened)], fail: bool = False
    ) -> str:
        log(request, "handler")
        if fail:
            raise HTTPException(409)
        return opened


@shape
def response(app: FastAPI) -> None:
    @app.get("/response")
    async def route(user: Caller, response: Response) -> str:
        response.status_code = 201
        response.headers["x-own"] = "1"
        response.set_cookie("a", "b")
        return "made"


@shape
def tasks(app: FastAPI) -> None:
    @app.get("/tasks")
    async def route(request: Request, user: Caller, tasks: BackgroundTasks) -> str:
        tasks.add_task(log, request, "task")
        return "made"


@shape
def own_tasks(app: FastAPI) -> None:
    @app.get("/own_tasks")
    async def route(request: Request, user: Caller, tasks: BackgroundTasks) -> Response:
        tasks.add_task(log, request, "task")
        return PlainTextResponse("made")


@shape
def refuses(app: FastAPI) -> None:
    @app.get("/refuses")
    async def route(user: Caller) -> str:
        raise HTTPException(418, "tea", {"x-pot": "short"})


@shape
def fails(app: FastAPI) -> None:
    @app.get("/fails")
    async def route(user: Caller) -> str:
        raise LookupError(user.email)


@shape
def unfit(app: FastAPI) -> None:
    @app.get("/unfit")
    async def route(user: Caller) -> Person:
        return {"name": 1}  # type: ignore[return-value]


@shape
def unfit_sync(app: FastAPI) -> None:
    @app.get("/unfit_sync")
    def route(user: Caller) -> Person:
        return {"name": 1}  # type: ignore[return-value]


@shape
def limited(app: FastAPI) -> None:
    @app.get("/limited", max_body_size=10)
    async def route(request: Request, user: Caller) -> int:
        return len(await request.body())


@shape
def wrapped(app: FastAPI) -> None:
    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: object, **options: object) -> Any:
            return function(*args, **options)

        return call

    @app.get("/wrapped")
    @decorated
    async def route(user: Caller) -> str:
        return user.email


@shape
def several_methods(app: FastAPI) -> None:
    @app.api_route("/several_methods", methods=["GET", "POST", "DELETE"])
    async def route(user: Caller) -> str:
        return user.email


@shape
def scopes(app: FastAPI) -> None:
    @app.get("/scopes")
    async def route(user: Annotated[User, Depends(current_user(superuser=True))]) -> str:
        return user.email


@shape
def security(app: FastAPI) -> None:
    @app.get("/security")
    async def route(user: Annotated[User, Security(current_user(), scopes=["a"])]) -> str:
        return user.email


@shape
def body(app: FastAPI) -> None:
    @app.api_route("/body", methods=["GET", "POST"])
    async def route(user: Caller, person: Annotated[Person, Body()]) -> str:
        return person.name


@shape
def superusers(app: FastAPI) -> None:
    @app.api_route("/superusers", methods=["GET", "POST"])
    async def route(
        user: Annotated[User, Depends(current_user(superuser=True))], person: Person
    ) -> str:
        return person.name


@shape
def stream(app: FastAPI) -> None:
    @app.get("/stream", response_class=StreamingResponse)
    async def route(user: Caller) -> AsyncIterator[str]:
        yield user.email


@shape
def jsonl(app: FastAPI) -> None:
    @app.get("/jsonl")
    async def route(user: Caller) -> AsyncIterator[Person]:
        yield Person(name=user.email)


@shape
def sync_stream(app: FastAPI) -> None:
    @app.get("/sync_stream", response_class=StreamingResponse)
    def route(user: Caller) -> Iterator[str]:
        yield user.email


@shape
def part(app: FastAPI) -> None:
    async def route(user: Caller, tail: str) -> str:
        return user.email + tail

    app.get("/part")(partial(route, tail="!"))


class Endpoint:
    """An object that FastAPI calls as an endpoint."""

    async def __call__(self, user: Caller) -> str:
        return user.email


@shape
def callable_object(app: FastAPI) -> None:
    app.get("/callable_object")(Endpoint())


@shape
def open_route(app: FastAPI) -> None:
    @app.get("/open_route")
    async def route() -> str:
        return "open"


async def told(_: Request, error: Exception) -> Response:
    """Answers with the text of an error, and where it came from."""
    return PlainTextResponse(f"{error} {error.__cause__}", 500)


@asynccontextmanager
async def serving(auth: AuthAPI) -> AsyncIterator[tuple[Client, FastAPI]]:
    """An application with all routes, and a client for it."""
    app = FastAPI(lifespan=auth.lifespan)
    app.state.log = []
    app.add_exception_handler(ResponseValidationError, told)
    auth.install(app)
    for add in _SHAPES.values():
        add(app)
    async with client(app) as api:
        yield api, app


@pytest.fixture
def make(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[bool], AbstractAsyncContextManager[tuple[Client, FastAPI]]]:
    """Serves the application with or without the shorter way."""

    def serve(short: bool) -> AbstractAsyncContextManager[tuple[Client, FastAPI]]:
        shorten = shorten_routes if short else lambda _: 0
        monkeypatch.setattr(installation, "shorten_routes", shorten)
        return serving(AuthAPI(make_settings()))

    return serve


REQUESTS = [
    *((name, f"/{name}", "GET", b"") for name in _SHAPES),
    ("request", "/request/a%2Fb?x=1&x=2", "GET", b""),
    ("nested_router", "/nested_router/inner/7", "GET", b""),
    ("nested_router", "/nested_router/inner/x", "GET", b""),
    ("nested_router", "/nested_router/inner/7", "POST", b""),
    ("parameters", "/parameters/7?limit=4", "GET", b""),
    ("parameters", "/parameters/x?limit=9", "GET", b""),
    ("yields", "/yields?fail=true", "GET", b""),
    ("yields", "/yields?fail=perhaps", "GET", b""),
    ("limited", "/limited", "GET", b"short"),
    ("limited", "/limited", "GET", b"longer than ten bytes"),
    ("several_methods", "/several_methods", "POST", b"{}"),
    ("several_methods", "/several_methods", "DELETE", b""),
    ("several_methods", "/several_methods", "PUT", b""),
    ("body", "/body", "POST", b'{"name": "x"}'),
    ("body", "/body", "POST", b"{"),
    ("plain", "/plain", "POST", b""),
    ("plain", "/plain", "HEAD", b""),
]


async def answers(api: Client, app: FastAPI, headers: dict[str, str]) -> list[Found]:
    """Returns what each request is answered, without what differs from request to request."""
    found: list[Found] = []
    for _, path, method, content in REQUESTS:
        app.state.log.clear()
        answer = await api.request(method, path, headers=headers, content=content)
        varying = (b"date", b"x-request-id")
        fields = [pair for pair in answer.headers.raw if pair[0] not in varying]
        result = (answer.status_code, _REQUEST_ID.sub("", answer.text))
        found.append((method, path, result, fields, tuple(app.state.log)))
    return found


async def test_the_shorter_way_answers_as_fastapi_does(
    make: Callable[[bool], AbstractAsyncContextManager[tuple[Client, FastAPI]]],
) -> None:
    kinds = ("none", "token", "jwt", "session", "invalid", "another scheme", "two headers")
    found: dict[tuple[bool, str], list[Found]] = {}
    for short in (False, True):
        async with make(short) as (api, app):
            if not short:
                await api.create_user(email="ann@example.com")
            for kind in kinds:
                headers: dict[str, str] = {}
                if kind in ("token", "jwt", "session"):
                    headers = await credential(api, "ann@example.com", kind)
                elif kind == "invalid":
                    headers = {"authorization": "Bearer aat_wrong"}
                elif kind == "another scheme":
                    headers = {"authorization": "Digest x"}
                elif kind == "two headers":
                    headers = {"cookie": "authapi=1; authapi=2"}
                api.cookies.clear()
                # The second time, the caller is known.
                await answers(api, app, headers)
                found[short, kind] = await answers(api, app, headers)
    for kind in kinds:
        for one, other in zip(found[False, kind], found[True, kind], strict=True):
            assert one == other
    known = {path: result for verb, path, result, *_ in found[True, "token"] if verb == "GET"}
    assert known["/plain"] == (200, '{"email":"ann@example.com"}')
    for path in ("/unfit", "/unfit_sync"):
        assert f'File "{__file__}"' in known[path][1]
        assert f"GET {path}" in known[path][1]


async def credential(api: Client, email: str, strategy: str) -> dict[str, str]:
    """Logs in, and returns the header with the credential."""
    answer = await api.post(
        "/login", json={"email": email, "password": PASSWORD, "strategy": strategy}
    )
    if strategy == "session":
        (name, value) = next(iter(answer.cookies.items()))
        return {"cookie": f"{name}={value}"}
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
async def counted(
    make: Callable[[bool], AbstractAsyncContextManager[tuple[Client, FastAPI]]],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[Client, FastAPI, list[str]]]:
    """The application with the shorter way, and an entry for each request that FastAPI handles."""
    solved: list[str] = []

    def counting() -> None:
        solved.append("handled")  # called at the beginning of FastAPI's handler

    async with make(True) as (api, app):
        user = await api.create_user(email="ann@example.com")
        api.headers.update(await credential(api, user.email, "token"))
        monkeypatch.setattr(routing, "get_telemetry_data", counting)
        yield api, app, solved


async def is_short(counted: tuple[Client, FastAPI, list[str]], name: str) -> bool:
    """Whether a request takes the shorter way, which does not call FastAPI's."""
    api, _, solved = counted
    solved.clear()
    paths = {"request": "/request/x", "nested_router": "/nested_router/inner/1"}
    path = paths.get(name, "/parameters/1" if name == "parameters" else f"/{name}")
    await api.get(path)
    return solved == []


async def test_which_routes_take_the_shorter_way(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    assert [name for name in _SHAPES if await is_short(counted, name)] == [
        name for name in _SHAPES if name in SHORT
    ]


async def test_an_override_of_any_dependency(counted: tuple[Client, FastAPI, list[str]]) -> None:
    api, app, _ = counted

    async def another() -> User:
        raise HTTPException(410)

    app.dependency_overrides[opened] = another
    assert not await is_short(counted, "plain")
    app.dependency_overrides = {current_user(): another}
    assert (await api.get("/plain")).status_code == 410
    app.dependency_overrides.clear()
    assert await is_short(counted, "plain")


async def test_a_dependency_that_is_added_late(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    api, app, _ = counted
    route = next(each for each in app.routes if getattr(each, "path", "") == "/plain")
    assert isinstance(route, APIRoute)
    added = routing.get_dependant(path="/plain", call=nothing_here)  # type: ignore[attr-defined]
    route.dependant.dependencies.insert(0, added)
    assert not await is_short(counted, "plain")
    assert app.state.log[-1] == "nothing_here"
    del route.dependant.dependencies[0]
    assert await is_short(counted, "plain")

    async def endpoint(**values: object) -> dict[str, str]:
        return {"email": "replaced"}

    route.dependant.call = endpoint
    assert (await api.get("/plain")).json() == {"email": "replaced"}


@pytest.mark.parametrize("name", gated_routes._REPLACED_BY_TRACERS)
async def test_a_function_of_fastapi_that_is_wrapped(
    name: str,
    make: Callable[[bool], AbstractAsyncContextManager[tuple[Client, FastAPI]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, calls = getattr(routing, name), list[str]()

    @wraps(original)
    def traced(*args: Any, **options: Any) -> Any:
        calls.append(name)
        return original(*args, **options)

    monkeypatch.setattr(routing, name, traced)
    async with make(True) as (api, app):
        assert shorten_routes(app) == 0
        user = await api.create_user(email="ann@example.com")
        headers = await credential(api, user.email, "token")
        calls.clear()
        assert (await api.get("/plain", headers=headers)).json() == {"email": user.email}
        assert bool(calls) is (name not in ("get_request_handler", "request_response"))


async def test_a_function_of_fastapi_that_is_wrapped_after_the_start(
    counted: tuple[Client, FastAPI, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await is_short(counted, "plain")
    run, calls = routing.run_endpoint_function, list[str]()

    async def traced(**options: Any) -> Any:
        calls.append("endpoint")
        return await run(**options)

    monkeypatch.setattr(routing, "run_endpoint_function", traced)
    assert not await is_short(counted, "plain")
    assert calls == ["endpoint"]


async def test_a_route_whose_application_is_replaced_or_wrapped(
    make_settings: SettingsFactory,
) -> None:
    class Own(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            handle = super().get_route_handler()

            async def marked(request: Request) -> Response:
                answer = await handle(request)
                answer.headers["x-own"] = "handler"
                return answer

            return marked

    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    router = APIRouter(route_class=Own)

    @router.get("/custom")
    async def custom(user: Caller) -> str:
        return user.email

    @app.get("/wrapped")
    async def wrapped(user: Caller) -> str:
        return user.email

    app.include_router(router)
    route: Any = app.routes[-2]
    inner = route.app

    async def around(scope: Any, receive: Any, send: Any) -> None:
        scope["app"].state.seen = True
        await inner(scope, receive, send)

    route.app = around
    async with client(app) as api:
        user = await api.create_user(email="ann@example.com")
        headers = await credential(api, user.email, "token")
        assert (await api.get("/custom", headers=headers)).headers["x-own"] == "handler"
        assert (await api.get("/wrapped", headers=headers)).text == f'"{user.email}"'
        assert app.state.seen
        assert (await api.get("/wrapped")).status_code == 401


async def test_a_session_that_ends_is_refused_by_the_shorter_way(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    api, _, _ = counted
    assert (await api.get("/plain")).status_code == 200
    assert (await api.post("/logout")).status_code == 204
    assert (await api.get("/plain")).status_code == 401
    assert await is_short(counted, "plain")


async def test_a_route_that_is_added_late_takes_the_way_of_fastapi(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    api, app, solved = counted

    @app.get("/late")
    async def late(user: Caller) -> str:
        return user.email

    assert (await api.get("/late")).text == '"ann@example.com"'
    assert solved == ["handled"]
    api.headers.pop("authorization")
    assert (await api.get("/late")).status_code == 401


async def test_validation_errors_name_the_endpoint(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    api, app, _ = counted
    seen: list[RequestValidationError] = []

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        seen.append(error)
        return PlainTextResponse("invalid", 422)

    handlers = {**app.exception_handlers, RequestValidationError: handle}
    app.exception_handlers.update(handlers)
    app.middleware_stack = app.build_middleware_stack()
    assert (await api.get("/parameters/x")).text == "invalid"
    assert seen[0].endpoint_path == "GET /parameters/{number}"
    assert seen[0].endpoint_function == "route"
    assert seen[0].endpoint_file == __file__
    assert seen[0].body is None


class Sent:
    """A body in two parts, which notes whether the application reads it."""

    def __init__(self, between: Callable[[], Awaitable[object]] | None = None) -> None:
        self.is_read = False
        self._between = between

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_read = True
        yield b'{"name": '
        if self._between is not None:
            await self._between()
        yield b'"x"}'


async def post(api: Client, path: str, body: Sent) -> httpx.Response:
    """Sends a JSON body in parts."""
    headers = {"content-type": "application/json"}
    return await api.post(path, content=aiter(body), headers=headers)


async def test_a_stranger_is_refused_before_the_body(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    api, _, _ = counted
    body = Sent()
    assert (await post(api, "/body", body)).json() == "x"
    assert body.is_read
    refused = Sent()
    assert (await post(api, "/superusers", refused)).status_code == 403
    assert not refused.is_read
    for credential in ("Bearer aat_wrong", ""):
        api.headers["authorization"] = credential
        assert (await post(api, "/body", refused)).status_code == 401
    assert not refused.is_read
    assert (await post(api, "/body", refused)).headers["cache-control"] == "no-store"


async def test_a_session_that_ends_while_the_body_arrives_is_refused(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    api, _, _ = counted
    body = Sent(between=lambda: api.post("/logout"))
    assert (await post(api, "/body", body)).status_code == 401


async def test_a_caller_with_a_body_is_counted_once(make_settings: SettingsFactory) -> None:
    async with serving(AuthAPI(make_settings(metrics_path="/metrics"))) as (api, _):
        user = await api.create_user(email="ann@example.com")
        metrics = api.services.metrics
        assert metrics is not None
        api.headers.update(await credential(api, user.email, "token"))
        counted = list[tuple[str, str]]()
        metrics.count_authentication = lambda *found: counted.append(found)  # type: ignore[method-assign]
        assert (await post(api, "/body", Sent())).status_code == 200
        assert (await post(api, "/body", Sent())).status_code == 200
        api.headers["authorization"] = "Bearer aat_wrong"
        assert (await post(api, "/body", Sent())).status_code == 401
        assert counted == [("token", "authenticated"), ("token", "cached"), ("token", "refused")]


class BodyStrategy(Strategy[bytes]):
    """A strategy of an application, which reads the body."""

    name = "body"
    asked = 0

    def read(self, connection: HTTPConnection) -> bytes | None:
        return b"" if isinstance(connection, Request) else None

    async def authenticate(self, credential: bytes, connection: HTTPConnection) -> Identity:
        assert isinstance(connection, Request)
        type(self).asked += 1
        assert json.loads(await connection.body()) == {"name": "x"}
        raise InvalidCredential

    def challenge(self) -> Challenge:
        return Challenge("Body")

    def openapi(self) -> dict[str, object]:
        return {"type": "http", "scheme": "body"}


async def test_a_strategy_of_another_package_is_asked_after_the_body(
    make_settings: SettingsFactory,
) -> None:
    own = f"{__name__}:BodyStrategy"
    async with serving(AuthAPI(make_settings(strategies=["session", "token", own]))) as (api, _):
        BodyStrategy.asked = 0
        assert (await post(api, "/body", Sent())).status_code == 401
        assert BodyStrategy.asked == 1


@asynccontextmanager
async def small(
    make_settings: SettingsFactory, add: Shape, **changes: object
) -> AsyncIterator[tuple[Client, FastAPI]]:
    """An application with the routes that `add` adds, and a client with a token."""
    auth = AuthAPI(make_settings(**changes))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    add(app)
    async with client(app) as api:
        user = await api.create_user(email="ann@example.com")
        api.headers.update(await credential(api, user.email, "token"))
        yield api, app


async def test_a_synchronous_route_with_a_parameter_named_func(
    make_settings: SettingsFactory,
) -> None:
    def add(app: FastAPI) -> None:
        @app.get("/func")
        def route(user: Caller, func: str = "sum") -> str:
            return func

    async with small(make_settings, add) as (api, _):
        assert (await api.get("/func?func=mean")).text == '"mean"'


@pytest.mark.parametrize("how", ["element", "call"])
async def test_a_gate_that_is_replaced_by_a_stricter_one_after_the_start(
    counted: tuple[Client, FastAPI, list[str]], how: str
) -> None:
    api, app, _ = counted
    route = next(each for each in app.routes if getattr(each, "path", "") == "/plain")
    assert isinstance(route, APIRoute)
    stricter = current_user(superuser=True)
    if how == "element":
        added = routing.get_dependant(path="/plain", call=stricter, name="user")  # type: ignore[attr-defined]
        route.dependant.dependencies[0] = added
    else:
        route.dependant.dependencies[0].call = stricter
    assert (await api.get("/plain")).status_code == 403


async def test_a_later_dependency_that_is_replaced_after_the_start(
    counted: tuple[Client, FastAPI, list[str]],
) -> None:
    api, app, _ = counted

    async def refuse() -> str:
        raise HTTPException(410)

    route = next(each for each in app.routes if getattr(each, "path", "") == "/later_dependency")
    assert isinstance(route, APIRoute)
    added = routing.get_dependant(path="/x", call=refuse, name="email")  # type: ignore[attr-defined]
    route.dependant.dependencies[1] = added
    assert (await api.get("/later_dependency")).status_code == 410


async def test_an_invalid_parameter_does_not_read_the_source_each_time(
    counted: tuple[Client, FastAPI, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _, _ = counted
    assert (await api.get("/parameters/x")).status_code == 422
    read = list[object]()
    monkeypatch.setattr(inspect, "getsourcelines", read.append)
    await api.get("/parameters/x")
    assert read == []


async def test_an_invalid_parameter_of_an_endpoint_whose_source_has_changed(
    counted: tuple[Client, FastAPI, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _, _ = counted

    def fail(_: object) -> None:
        raise SyntaxError  # as `tokenize.TokenError`, for a file that was edited since the start

    monkeypatch.setattr(inspect, "getsourcelines", fail)
    assert (await api.get("/parameters/x")).status_code == 422


async def token_caller(identity: Annotated[Identity, Depends(current_identity("token"))]) -> str:
    """A dependency of a dependency, whose gate asks another strategy."""
    return identity.strategy


async def test_a_strategy_that_only_a_later_gate_asks_is_counted(
    make_settings: SettingsFactory,
) -> None:
    def add(app: FastAPI) -> None:
        @app.post("/nested")
        async def route(
            user: Annotated[User | None, Depends(current_user("session", optional=True))],
            strategy: Annotated[str, Depends(token_caller)],
            person: Person,
        ) -> str:
            return strategy

    async with small(make_settings, add, metrics_path="/metrics") as (api, _):
        metrics = api.services.metrics
        assert metrics is not None
        found = list[tuple[str, str]]()
        metrics.count_authentication = lambda *each: found.append(each)  # type: ignore[method-assign]
        assert (await post(api, "/nested", Sent())).status_code == 200
        api.headers["authorization"] = "Bearer aat_wrong"
        assert (await post(api, "/nested", Sent())).status_code == 401
        assert found == [("token", "authenticated"), ("token", "refused")]


async def test_a_password_is_verified_once_for_a_request_with_a_body(
    make_settings: SettingsFactory,
) -> None:
    names = ["session", "token", "basic"]
    async with small(make_settings, _SHAPES["body"], strategies=names) as (api, _):
        authentication = api.services.accounts.authentication
        authenticate, calls = authentication.authenticate, list[str]()

        async def counting(*args: Any, **options: Any) -> Any:
            calls.append("asked")
            return await authenticate(*args, **options)

        authentication.authenticate = counting  # type: ignore[method-assign]
        del api.headers["authorization"]
        api.auth = httpx.BasicAuth("ann@example.com", PASSWORD)
        assert (await post(api, "/body", Sent())).status_code == 200
        assert calls == ["asked"]


async def test_a_version_of_fastapi_without_its_private_name(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = RouteContext._effective_route

    def attribute(context: RouteContext, name: str) -> Any:
        return getattr(context._renamed, name)

    def renamed(name: str) -> property:
        return property(lambda context: getattr(context._renamed, name, None))

    monkeypatch.delattr(RouteContext, "_effective_route")
    monkeypatch.setattr(RouteContext, "_renamed", found, raising=False)
    monkeypatch.setattr(RouteContext, "__getattr__", attribute)
    for name in ("path", "path_format", "name", "methods", "endpoint"):
        monkeypatch.setattr(RouteContext, name, renamed(name))
    async with small(make_settings, _SHAPES["plain"]) as (api, _):
        assert (await api.get("/plain")).status_code == 200


def test_a_version_of_fastapi_with_an_option_that_is_not_known() -> None:
    app = FastAPI()
    _SHAPES["plain"](app)
    route = next(each for each in app.routes if getattr(each, "path", "") == "/plain")
    assert isinstance(route, APIRoute)
    ordinary = gated_routes._variables(route.app, "request_response.<locals>.app")["f"]
    variables = gated_routes._variables(ordinary, "get_request_handler.<locals>.app")
    assert gated_routes._handler(ordinary, variables) is not None
    assert gated_routes._handler(ordinary, variables | {"max_rows": 5}) is None
