"""Paths of an application at which no route has a gate, and what changes them."""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route

from authapi import AuthAPI, User, current_user
from authapi.testing import acting_as, client
from authapi.web.middleware.own_paths import paths_of_app
from tests.conftest import SettingsFactory

Caller = Annotated[User, Depends(current_user())]
OPTIONAL_CALLER = current_user(optional=True)


async def open_route() -> str:
    """Answers any client."""
    return "open"


async def caller(user: Caller) -> str:
    """Answers a caller."""
    return user.email


def of_caller(user: Caller) -> str:
    """A dependency with a gate."""
    return user.email


def application() -> tuple[FastAPI, APIRouter]:
    """An application with open and gated routes, and the routes that are ours."""
    app, own, guarded = FastAPI(), APIRouter(), APIRouter(dependencies=[Depends(current_user())])
    own.get("/me")(open_route)
    app.include_router(own)
    app.get("/open")(open_route)
    app.post("/open")(open_route)
    app.get("/mixed")(open_route)
    app.post("/mixed")(caller)
    app.get("/items/{number}")(open_route)
    app.get("/nested", dependencies=[Depends(of_caller)])(open_route)
    guarded.get("/of-router")(open_route)
    app.include_router(guarded, prefix="/guarded")
    app.add_api_route("/me", open_route)
    app.get("/below/one")(open_route)
    app.router.routes.append(Mount("/below", app=FastAPI()))
    app.router.routes.append(Route("/plain", lambda request: PlainTextResponse("plain")))
    app.get("/{kind}/gated")(caller)
    app.get("/any/gated")(open_route)

    @app.websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept()

    return app, own


def test_paths_of_the_application_tell_whether_a_gate_is_there() -> None:
    app, own = application()
    documents = ("/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc")
    gated = ("/mixed", "/nested", "/guarded/of-router", "/any/gated")
    expected = dict.fromkeys((*documents, "/open", "/plain"), False) | dict.fromkeys(gated, True)
    assert paths_of_app(app, own) == expected


def test_no_path_is_known_beside_a_host() -> None:
    app, own = application()
    app.router.routes.append(Host("shop.example", app=FastAPI()))
    assert paths_of_app(app, own) == {}


async def test_a_gate_that_an_open_path_gets_later_adds_its_headers(
    make_settings: SettingsFactory,
) -> None:
    auth, router = AuthAPI(make_settings()), APIRouter()
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    router.get("/nested")(open_route)
    app.include_router(router)
    app.get("/changed")(open_route)
    async with client(app) as api:
        user = await api.create_user()
        for path in ("/nested", "/changed"):
            assert "vary" not in (await api.get(path)).headers
        app.post("/changed")(caller)
        router.post("/nested")(caller)
        with acting_as(user):
            changed = await api.post("/changed")
            assert (changed.json(), changed.headers["cache-control"]) == (user.email, "no-store")
            assert changed.headers["vary"] == "Authorization, Cookie, Origin"
            # FastAPI does not report a change of a nested router: the second response knows.
            assert (await api.post("/nested")).json() == user.email
            assert (await api.post("/nested")).headers["cache-control"] == "no-store"
        assert "vary" not in (await api.get("/nested")).headers


async def test_a_dependency_that_is_replaced_by_a_gate_adds_its_headers(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    async def guess() -> None:
        return None

    @app.get("/guess")
    async def guessed(user: Annotated[User | None, Depends(guess)]) -> str:
        return "none" if user is None else user.email

    async with client(app) as api:
        user = await api.create_user()
        assert "vary" not in (await api.get("/guess")).headers
        app.dependency_overrides[guess] = OPTIONAL_CALLER
        with acting_as(user):
            found = await api.get("/guess")
        assert (found.json(), found.headers["cache-control"]) == (user.email, "no-store")
        app.dependency_overrides = {}
        assert (await api.get("/guess")).json() == "none"


async def test_the_application_keeps_its_paths_below_the_console(
    make_settings: SettingsFactory,
) -> None:
    """The console answers each path below its own that no route of the application has."""
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    app.get("/console/before")(open_route)
    auth.install(app)
    app.get("/console/after")(open_route)
    app.get("/console/items/{number}")(open_route)
    async with client(app) as api:
        for path in ("/console/before", "/console/after", "/console/items/1"):
            assert (await api.get(path)).json() == "open"
        for path in ("/console/people", "/console/other", "/console/items"):
            answer = await api.get(path, headers={"accept": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
