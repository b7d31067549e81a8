"""authapi in an application: own paths, gates on its routes, replaced routes, mistakes."""

import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Message

from authapi import AuthAPI, ConfigurationError, User, current_identity, current_user
from authapi.errors import AuthAPIError, EmailTaken, InvalidCredential
from authapi.testing import Client, acting_as, client
from authapi.verify import RemoteJWT, ResourceServer
from tests.conftest import SettingsFactory
from tests.web.host_application import ORIGIN, build

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette prefers a fork of httpx
    from starlette.testclient import TestClient, WebSocketDenialResponse

OURS = "https://spa.example"
PROBLEM = "application/problem+json"
Caller = Annotated[User, Depends(current_user())]


def host(auth: AuthAPI) -> FastAPI:
    """An application with handlers for all errors and routes with gates."""
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"theirs: {error}", 500)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"theirs": error.detail}, error.status_code)

    @app.get("/mine")
    async def mine(user: Caller) -> str:
        return user.email

    @app.get("/open")
    async def open_route() -> str:
        return "open"

    @app.get("/maybe")
    async def maybe(user: Annotated[User | None, Depends(current_user(optional=True))]) -> bool:
        return user is not None

    @app.get("/cached")
    async def cached(user: Caller) -> Response:
        return Response(user.email, headers={"Cache-Control": "private, max-age=5"})

    @app.get("/taken")
    async def taken() -> None:
        raise EmailTaken

    @app.get("/misconfigured")
    async def misconfigured() -> None:
        raise ConfigurationError("a failure of the process")

    @app.websocket("/socket")
    async def socket(socket: WebSocket, user: Caller) -> None:
        await socket.accept()
        await socket.send_text(user.email)
        await socket.close()

    below = FastAPI()

    @below.get("/mine")
    async def mine_below(user: Caller) -> str:
        return user.email

    app.mount("/below", below)
    return app


@pytest.fixture
async def guest(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    async with client(host(AuthAPI(make_settings()))) as found:
        yield found


# Own paths ----------------------------------------------------------------------------------------


async def test_own_routes_answer_with_problem_documents(guest: Client) -> None:
    for method, path, status, code in [
        ("GET", "/me", 401, "unauthenticated"),
        ("PUT", "/me", 405, "method_not_allowed"),
        ("POST", "/login", 422, "validation_failed"),
        ("GET", "/login/", 404, "not_found"),
        ("POST", "/me/", 404, "not_found"),
        ("GET", "/me/sessions//", 404, "not_found"),
    ]:
        answer = await guest.request(method, path, json={})
        found = (answer.status_code, answer.headers["content-type"], answer.json()["code"])
        assert found == (status, PROBLEM, code), path
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "location" not in answer.headers
    allowed = (await guest.put("/me")).headers["allow"]
    assert allowed == "DELETE, GET, HEAD, PATCH"


async def test_an_unhandled_error_of_an_own_route_is_a_problem(
    guest: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise LookupError("secret text")

    monkeypatch.setattr(guest.services.accounts.authentication, "authenticate", broken)
    answer = await guest.post("/login", json={"email": "a@example.com", "password": "x" * 12})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == PROBLEM
    assert "secret text" not in answer.text
    [record] = [record for record in caplog.records if record.getMessage() == "unhandled error"]
    assert record.__dict__["request_id"] == answer.json()["request_id"]


async def test_an_exception_of_a_hook_is_a_problem(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())

    @auth.before_login
    async def refuse(request: Request, email: str) -> None:
        raise HTTPException(402, {"plan": "free"})

    async with client(host(auth)) as api:
        answer = await api.post("/login", json={"email": "a@example.com", "password": "x" * 12})
    assert (answer.status_code, answer.json()["detail"]) == (402, {"plan": "free"})
    assert answer.headers["content-type"] == PROBLEM


async def test_head_and_limits_hold_on_own_routes(guest: Client) -> None:
    head = await guest.head("/health/live")
    assert (head.status_code, head.content) == (200, b"")
    large = await guest.get("/health/live", headers={"cookie": "a=" + "x" * 9000})
    assert (large.status_code, large.json()["code"]) == (431, "headers_too_large")
    twice = await guest.get(
        "/health/live", headers=[("authorization", "a"), ("authorization", "b")]
    )
    assert twice.json()["code"] == "duplicate_header"


@pytest.mark.parametrize("origins", [[], [OURS]])
async def test_cors_on_own_paths(
    make_settings: SettingsFactory, origins: list[str], tmp_path: Path
) -> None:
    """With `allowed_origins`, authapi alone decides; without, the application does."""
    app = build(AuthAPI(make_settings(allowed_origins=origins)), tmp_path, handles_errors=False)
    async with client(app) as api:
        for origin in (OURS, ORIGIN):
            expected = origin if origin == (OURS if origins else ORIGIN) else None
            got = await api.get("/health/live", headers={"origin": origin})
            asked = {"origin": origin, "access-control-request-method": "POST"}
            preflight = await api.options("/login", headers=asked)
            for answer in (got, preflight):
                assert answer.headers.get("access-control-allow-origin") == expected, origin
                assert len(answer.headers.get_list("access-control-allow-origin")) < 2
            exposed = got.headers.get("access-control-expose-headers", "")
            assert ("X-Request-ID" in exposed, "X-Total" in exposed) == (bool(origins), not origins)
            refused = await api.options(
                "/login", headers={**asked, "access-control-request-headers": "x-shop"}
            )
            assert (refused.status_code == 200) == (expected == ORIGIN)
        public = await api.get("/.well-known/jwks.json", headers={"origin": "https://any.example"})
        assert public.headers.get_list("access-control-allow-origin") == ["*"]


# Gates on routes of the application ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mine", "/below/mine"])
async def test_a_refusal_of_a_gate_is_a_problem(guest: Client, path: str) -> None:
    refused = await guest.get(path)
    assert (refused.status_code, refused.headers["content-type"]) == (401, PROBLEM)
    assert refused.json()["code"] == "unauthenticated"
    assert refused.headers["www-authenticate"]
    assert len(refused.json()["request_id"]) == 32
    with acting_as(await guest.create_user("a@example.com")):
        answer = await guest.get(path)
    assert answer.json() == "a@example.com"
    for found in (refused, answer):
        assert found.headers["cache-control"] == "no-store"
        assert found.headers["vary"] == "Authorization, Cookie, Origin"
        assert {"x-request-id", "x-content-type-options"}.isdisjoint(found.headers)


async def test_headers_follow_what_the_gate_found(guest: Client) -> None:
    anonymous = await guest.get("/maybe")
    assert anonymous.json() is False
    assert anonymous.headers["vary"] == "Authorization, Cookie, Origin"
    assert "cache-control" not in anonymous.headers
    assert {"vary", "cache-control"}.isdisjoint((await guest.get("/open")).headers)
    with acting_as(await guest.create_user()):
        assert (await guest.get("/maybe")).headers["cache-control"] == "no-store"
        assert (await guest.get("/cached")).headers["cache-control"] == "private, max-age=5"
        assert {"vary", "cache-control"}.isdisjoint((await guest.get("/open")).headers)


async def test_an_ended_cookie_is_deleted(guest: Client) -> None:
    await guest.login(await guest.create_user())
    [cookie] = guest.cookies.items()
    await guest.post("/logout", headers={"sec-fetch-site": "same-origin"})
    guest.cookies.clear()
    for path, is_removed in (("/mine", True), ("/maybe", True), ("/open", False)):
        answer = await guest.get(path, headers={"cookie": "=".join(cookie)})
        assert ("set-cookie" in answer.headers) == is_removed, path
        assert answer.headers.get("cache-control") == ("no-store" if is_removed else None)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], 400, "duplicate_header"),
        ([("origin", "https://a.example"), ("origin", "null")], 400, "duplicate_header"),
        ([("host", "a.example"), ("host", "b.example")], 400, "duplicate_header"),
        ([("cookie", "a=" + "x" * 9000)], 431, "headers_too_large"),
    ],
)
async def test_gates_refuse_headers_that_they_cannot_trust(
    guest: Client, headers: list[tuple[str, str]], status: int, code: str
) -> None:
    for path in ("/mine", "/maybe", "/below/mine"):
        answer = await guest.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
    assert (await guest.get("/open", headers=headers)).json() == "open"


async def test_gates_require_https(make_settings: SettingsFactory) -> None:
    settings = make_settings(public_url="https://shop.example", trusted_proxies=["127.0.0.1"])
    async with client(host(AuthAPI(settings)), base_url="https://shop.example") as api:
        headers = {"x-forwarded-proto": "http", "x-forwarded-for": "192.0.2.1"}
        assert (await api.get("/mine", headers=headers)).json()["code"] == "https_required"
        assert (await api.get("/open", headers=headers)).json() == "open"


async def test_errors_of_authapi_in_handlers(guest: Client) -> None:
    for _ in range(2):
        taken = await guest.get("/taken")
        assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
        assert taken.headers["cache-control"] == "no-store"
        assert taken.headers["vary"] == "Authorization, Cookie, Origin"
    failure = await guest.get("/misconfigured")
    assert (failure.status_code, failure.text) == (500, "theirs: a failure of the process")


@pytest.mark.parametrize("error", [AuthAPIError, InvalidCredential, Exception])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_handler_of_the_application_wins(
    make_settings: SettingsFactory, error: type[Exception], is_first: bool
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    async def handle(_: Request, found: Exception) -> Response:
        return PlainTextResponse(type(found).__name__, 499)

    if is_first:
        app.add_exception_handler(error, handle)
    auth.install(app)
    if not is_first:
        app.add_exception_handler(error, handle)

    @app.get("/mine")
    async def mine(user: Caller) -> str:
        return user.email

    async with client(app) as api:
        bad = {"authorization": "Bearer aat_x"}
        answer = await api.get("/mine", headers=bad)
        expected = 401 if error is Exception else 499
        assert answer.status_code == expected
        assert answer.headers["cache-control"] == "no-store"
        own = await api.get("/me", headers=bad)
        assert (own.status_code, own.headers["content-type"]) == (401, PROBLEM)


async def test_events_name_the_client_of_a_route_of_the_application(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = host(auth)

    @app.post("/sign-up")
    async def sign_up() -> str:
        user = await auth.accounts.create("new@example.com", "correct horse battery")
        return str(user.id)

    async with client(app) as api:
        await api.post("/sign-up", headers={"user-agent": "shop/1"})
        with acting_as(await api.create_user(is_superuser=True)):
            listed = (await api.get("/admin/events?type=account_registered")).json()["items"]
    assert "shop/1" in {item["user_agent"] for item in listed}


def test_gates_of_websockets(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    with TestClient(host(auth), base_url="http://127.0.0.1:8000") as api:
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            api.websocket_connect("/socket"),
        ):
            pass
        assert refused.value.status_code == 401
        assert refused.value.headers["content-type"] == PROBLEM
        assert refused.value.headers["cache-control"] == "no-store"
        assert refused.value.headers["vary"] == "Authorization, Cookie, Origin"
        assert "x-request-id" not in refused.value.headers
        body = {"email": "a@example.com", "password": "correct horse battery"}
        assert api.post("/register", json=body).status_code == 201
        token = api.post("/login", json={**body, "strategy": "token"}).json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        with api.websocket_connect("/socket", headers=headers) as found:
            assert found.receive_text() == "a@example.com"


# Replaced routes and the document -----------------------------------------------------------------


class Given(BaseModel):
    """The login form of the application."""

    name: str


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_route_of_the_application_replaces_ours(
    make_settings: SettingsFactory, is_first: bool
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    if not is_first:
        auth.install(app)

    @app.post("/login", summary="Theirs")
    async def log_in(given: Given) -> Given:
        return given

    @app.get("/me", summary="Theirs")
    async def read_me() -> str:
        return "theirs"

    @app.delete("/me/sessions/{number}")
    async def end(number: int) -> int:
        return number

    @app.put("/me/tokens")
    async def put_tokens() -> str:
        return "put"

    if is_first:
        auth.install(app)
    async with client(app) as api:
        answer = await api.post("/login", json={"name": "a"})
        assert (answer.status_code, answer.json()) == (200, {"name": "a"})
        assert (await api.post("/login", json={})).json()["detail"][0]["loc"] == ["body", "name"]
        assert (await api.get("/me")).json() == "theirs"
        assert "x-request-id" not in (await api.get("/me")).headers
        assert (await api.patch("/me", json={})).json()["code"] == "unauthenticated"
        assert (await api.delete("/me/sessions/7")).json() == 7
        assert (await api.put("/me/tokens")).json() == "put"
        assert (await api.get("/me/tokens")).json()["code"] == "unauthenticated"
        assert (await api.post("/login/", json={})).status_code == 307  # as without authapi
        document = (await api.get("/openapi.json")).json()
    paths = document["paths"]
    assert paths["/login"]["post"]["summary"] == "Theirs"
    assert paths["/me"]["get"]["summary"] == "Theirs"
    assert paths["/me"]["patch"]["security"]
    assert "security" not in paths["/me"]["get"]
    assert "/me/sessions/{number}" in paths
    assert "/me/sessions/{session_id}" not in paths


async def test_a_route_added_before_wins_over_several_of_ours(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    @app.get("/{page}")
    async def page(page: str) -> str:
        return page

    auth.install(app)
    async with client(app) as api:
        me = await api.get("/me")
        assert (me.json(), "x-request-id" in me.headers) == ("me", False)
        assert (await api.get("/me/identity")).json()["code"] == "unauthenticated"
        assert (await api.delete("/me")).json()["code"] == "unauthenticated"


def described(auth: AuthAPI | None) -> dict[str, Any]:
    """Returns the document of an application, with authapi if `auth` is not None."""

    class Problem(BaseModel):
        mine: str

    app = FastAPI(lifespan=None if auth is None else auth.lifespan)
    if auth is not None:
        auth.install(app)
    scheme = OAuth2PasswordBearer("/x", scheme_name="session")

    @app.post("/open", responses={409: {"model": Problem}})
    async def open_route(given: Given, token: Annotated[str, Depends(scheme)]) -> Problem:
        return Problem(mine=token)

    @app.get("/number/{number}", openapi_extra={"x-limit": 3})
    async def numbered(number: int) -> int:
        return number

    if auth is not None:

        @app.get("/mine", responses={403: {"description": "Mine"}})
        async def mine(user: Caller) -> str:
            return user.email

    return app.openapi()


def test_the_document_describes_routes_of_the_application_as_before(
    make_settings: SettingsFactory,
) -> None:
    before, after = described(None), described(AuthAPI(make_settings()))
    for path, operations in before["paths"].items():
        assert after["paths"][path] == operations
    for kind, components in before["components"].items():
        for name, component in components.items():
            assert after["components"][kind][name] == component, name
    mine = after["paths"]["/mine"]["get"]
    assert {"authapi_session": []} in mine["security"]
    assert "authapi_session" in after["components"]["securitySchemes"]
    assert mine["responses"]["403"] == {"description": "Mine"}
    assert set(mine["responses"]) == {"200", "400", "401", "403", "431", "503"}
    assert "headers" not in mine["responses"]["200"]
    content = mine["responses"]["401"]["content"][PROBLEM]["schema"]
    assert content == {"$ref": "#/components/schemas/AuthAPIProblem"}
    assert after["components"]["schemas"]["AuthAPIProblem"]["title"] == "Problem"
    refs = json.dumps(after).count("#/components/schemas/AuthAPIProblem")
    assert refs > 50


async def test_operations_may_be_named_by_tags(make_settings: SettingsFactory) -> None:
    def name(route: APIRoute) -> str:
        return f"{route.tags[0]}-{route.name}"

    auth = AuthAPI(make_settings())
    for found in (auth, ResourceServer(RemoteJWT(issuer="https://id.example", audience="a"))):
        app = FastAPI(
            lifespan=found.lifespan, generate_unique_id_function=name, docs_url=None, redoc_url=None
        )
        found.install(app)
        document = app.openapi()
        assert document["paths"]["/health/live"]["get"]["operationId"] == "health-live"


# Mistakes -----------------------------------------------------------------------------------------


def test_a_second_installation_is_refused(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    issuer = RemoteJWT(issuer="https://id.example", audience="a")
    for other in (auth, AuthAPI(make_settings()), ResourceServer(issuer)):
        with pytest.raises(ConfigurationError, match="installed in this application already"):
            other.install(app)


@pytest.mark.parametrize("gate", [current_user, current_identity])
def test_a_gate_that_is_not_called_is_refused(gate: Callable[..., Any]) -> None:
    app = FastAPI()
    for add in (app.get, app.post, app.websocket):
        with pytest.raises(ConfigurationError, match=r"write Depends\(current_user\(\)\)"):

            @add("/mine")
            async def mine(user: Annotated[object, Depends(gate)]) -> None: ...


@pytest.mark.parametrize("is_socket", [False, True])
async def test_a_gate_outside_of_the_installation_is_refused(
    make_settings: SettingsFactory, is_socket: bool
) -> None:
    auth = AuthAPI(make_settings())
    app, below = FastAPI(lifespan=auth.lifespan), FastAPI()
    auth.install(below)
    app.mount("/below", below)
    async with app.router.lifespan_context(app):
        pass
    other = FastAPI()
    app.mount("/other", other)
    if is_socket:

        @other.websocket("/mine")
        async def socket(user: Caller) -> None: ...

    else:

        @other.get("/mine")
        async def mine(user: Caller) -> None: ...

    name = "WEBSOCKET" if is_socket else "GET"
    with pytest.raises(ConfigurationError, match=f"{name} /mine requires a caller, but authapi is"):
        async with app.router.lifespan_context(app):
            pass
    if not is_socket:
        transport = httpx.ASGITransport(other)
        async with httpx.AsyncClient(transport=transport, base_url="http://a.example") as api:
            with pytest.raises(RuntimeError, match=r"call AuthAPI\(\).install\(app\)"):
                await api.get("/mine")


@asynccontextmanager
async def empty(_: FastAPI) -> AsyncIterator[None]:
    yield


async def test_a_forgotten_lifespan_fails_the_start(make_settings: SettingsFactory) -> None:
    app = host(AuthAPI(make_settings()))
    app.router.lifespan_context = empty
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ConfigurationError, match=r"FastAPI\(lifespan=auth.lifespan\)"):
        await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    [message] = sent
    assert message["type"] == "lifespan.startup.failed"
    assert "FastAPI(lifespan=auth.lifespan)" in message["message"]


async def test_without_a_start_the_first_request_raises(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = host(auth)
    app.exception_handlers.pop(Exception)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as api:
        for path in ("/mine", "/below/mine", "/me"):
            with pytest.raises(RuntimeError, match=r"FastAPI\(lifespan=auth.lifespan\)"):
                await api.get(path)
        with pytest.raises(RuntimeError, match="not started: run the application's lifespan"):
            await api.post("/login", json={"email": "a@example.com", "password": "x" * 12})
        assert (await api.get("/open")).json() == "open"
        async with app.router.lifespan_context(app):
            assert (await api.get("/mine")).status_code == 401
        with pytest.raises(RuntimeError, match="not started"):
            await api.get("/mine")
