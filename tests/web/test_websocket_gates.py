"""Gates on WebSocket routes: under uvicorn, and the messages that the application sends."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket

from authapi import AuthAPI, Identity, User, current_identity, current_user
from authapi.crypto.secrets import new_opaque_token, new_secret
from authapi.errors import StorageUnavailable
from authapi.testing import Client, acting_as, client
from tests.conftest import SettingsFactory
from tests.servers.forked import Forking
from tests.web.websockets import Headers, WebSocketService, handshake, websocket_service

ALLOWED_ORIGIN = "https://app.example.com"
PROGRAM = """
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from authapi import AuthAPI, User, current_user

auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)


@app.websocket("/live")
async def live(websocket: WebSocket, user: Annotated[User, Depends(current_user())]) -> None:
    await websocket.accept()
    await websocket.send_text(f"hello {user.email}")
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


@app.websocket("/staff")
async def staff(
    websocket: WebSocket, user: Annotated[User, Depends(current_user(superuser=True))]
) -> None:
    await websocket.accept()
"""

# Under uvicorn ------------------------------------------------------------------------------------


async def greeting(service: WebSocketService, headers: Headers, origin: str | None = None) -> str:
    """Opens /live, checks that it echoes, and returns its first message."""
    async with service.open("/live", headers, origin) as websocket:
        hello = await websocket.recv()
        await websocket.send("echo")
        assert await websocket.recv() == "echo"
        return str(hello)


async def refused_status(
    service: WebSocketService, path: str, headers: Headers, origin: str | None = None
) -> int:
    """Returns the HTTP status that refuses the handshake."""
    return (await service.refusal(path, headers, origin)).status_code


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, forking: Forking
) -> Iterator[WebSocketService]:
    """An importing application under uvicorn."""
    settings = {"AUTHAPI_ALLOWED_ORIGINS": ALLOWED_ORIGIN}
    folder = tmp_path_factory.mktemp("websocket")
    with websocket_service(PROGRAM, folder, forking, settings=settings) as running:
        yield running
        assert "Traceback" not in running.process.output()


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_valid_credential_opens_the_websocket(
    service: WebSocketService, strategy: str
) -> None:
    headers = service.login(strategy)
    assert await greeting(service, headers) == f"hello {service.email}"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": "authapi=x"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Bearer a.b.c"},
        {"Sec-WebSocket-Protocol": "bearer, x"},
    ],
    ids=str,
)
async def test_handshake_without_a_valid_credential_is_401(
    service: WebSocketService, headers: Headers
) -> None:
    assert await refused_status(service, "/live", headers) == 401


async def test_token_in_the_url_is_ignored(service: WebSocketService) -> None:
    token = service.login("token")["Authorization"].removeprefix("Bearer ")
    assert await refused_status(service, f"/live?token={token}&access_token={token}", {}) == 401


async def test_cookie_requires_an_own_or_allowed_origin(service: WebSocketService) -> None:
    cookie = service.login("session")
    for origin in (service.origin, ALLOWED_ORIGIN):
        assert await greeting(service, cookie, origin) == f"hello {service.email}"
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        f"{service.origin}.evil.example",
        "http://app.example.com",
        f"{ALLOWED_ORIGIN}.evil.example",
        f"{ALLOWED_ORIGIN}:444",
    ):
        assert await refused_status(service, "/live", cookie, origin) == 403, origin


async def test_bearer_token_is_accepted_from_any_origin(service: WebSocketService) -> None:
    # A page of another origin cannot make a browser send the header.
    token, cookie = service.login("token"), service.login("session")
    for headers in (token, {**token, **cookie}):
        assert await greeting(service, headers, "https://evil.example") == f"hello {service.email}"


async def test_ended_session_is_refused(service: WebSocketService) -> None:
    for strategy in ("session", "token", "jwt"):
        headers = service.login(strategy)
        assert await greeting(service, headers) == f"hello {service.email}"
        response = service.request("POST", "/logout", headers=headers)
        assert response.status_code == 204
        assert await refused_status(service, "/live", headers) == 401


async def test_superuser_gate_refuses_the_handshake(service: WebSocketService) -> None:
    assert await refused_status(service, "/staff", service.login("token")) == 403


# In this process ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class WebSocketApp:
    """An application with WebSocket routes, in this process."""

    app: FastAPI
    api: Client

    async def outcome(self, path: str, headers: Headers | None = None) -> Any:
        """Returns the first text after accept, or the close code and reason of the refusal."""
        first, *rest = await handshake(self.app, path, headers)
        if first["type"] == "websocket.close":
            assert rest == []
            return first["code"], first["reason"]
        assert first["type"] == "websocket.accept"
        return rest[0]["text"]

    async def cookie(self, user: User) -> Headers:
        """Returns the headers with a valid cookie."""
        answer = await self.api.login(user)
        self.api.cookies.clear()
        return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def websocket_app(auth: AuthAPI) -> FastAPI:
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    fresh = timedelta(minutes=1)

    @app.websocket("/live")
    async def live(websocket: WebSocket, user: Annotated[User, Depends(current_user())]) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)

    @app.websocket("/optional")
    async def optional(
        websocket: WebSocket,
        identity: Annotated[Identity | None, Depends(current_identity(optional=True))],
    ) -> None:
        await websocket.accept()
        await websocket.send_text("anonymous" if identity is None else identity.strategy)

    @app.websocket("/number/{number}")
    async def numbered(websocket: WebSocket, number: int) -> None:
        await websocket.accept()

    for path, gate in (
        ("/fresh", current_user(fresh=fresh)),
        ("/scoped", current_user(scopes={"a"})),
        ("/verified", current_user(verified=True)),
        ("/staff", current_user(superuser=True)),
        ("/cookie", current_user("session")),
    ):
        app.websocket(path, dependencies=[Depends(gate)])(_accept)
    router = APIRouter(dependencies=[Depends(current_user("session"))])
    router.websocket("/both", dependencies=[Depends(current_user("token"))])(_accept)
    app.include_router(router)
    return app


async def _accept(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("in")


@asynccontextmanager
async def opened(make_settings: SettingsFactory, **changes: object) -> AsyncIterator[WebSocketApp]:
    app = websocket_app(AuthAPI(make_settings(scopes={"a": "A"}, **changes)))
    async with client(app) as api:
        yield WebSocketApp(app, api)


@pytest.fixture
async def running(make_settings: SettingsFactory) -> AsyncIterator[WebSocketApp]:
    async with opened(make_settings, allowed_origins=(ALLOWED_ORIGIN,)) as found:
        yield found


async def test_unauthenticated_is_4401(running: WebSocketApp) -> None:
    for headers in (
        {},
        {"Cookie": "authapi=x"},
        {"Cookie": f"authapi={new_secret()}"},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Bearer {new_opaque_token()}"},
    ):
        assert await running.outcome("/live", headers) == (4401, "unauthenticated"), headers


async def test_each_requirement_has_its_close_code(running: WebSocketApp) -> None:
    alice = await running.api.create_user()
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with acting_as(replace(alice, is_active=False)):
        assert await running.outcome("/live") == (4401, "inactive_account")
    with acting_as(alice, auth_time=long_ago):
        assert await running.outcome("/fresh") == (4401, "stale_authentication")
    with acting_as(alice):
        assert await running.outcome("/live") == alice.email
        assert await running.outcome("/fresh") == "in"
        assert await running.outcome("/scoped") == (1008, "insufficient_scope")
        assert await running.outcome("/verified") == (1008, "email_not_confirmed")
        assert await running.outcome("/staff") == (1008, "superuser_required")
    powerful = replace(alice, is_superuser=True, email_confirmed_at=long_ago)
    with acting_as(powerful, scopes={"a"}):
        for path in ("/scoped", "/verified", "/staff"):
            assert await running.outcome(path) == "in"


async def test_foreign_origin_is_1008(running: WebSocketApp) -> None:
    alice = await running.api.create_user()
    cookie = await running.cookie(alice)
    for origin in ("http://127.0.0.1:8000", ALLOWED_ORIGIN):
        assert await running.outcome("/live", {**cookie, "Origin": origin}) == alice.email
    for origin in (
        "https://evil.example",
        "null",
        "",
        "http://[",
        "127.0.0.1:8000",
        "http://127.0.0.1",
        "http://localhost:8000",
        "http://127.0.0.1:8000@evil.example",
        "http://alice@127.0.0.1:8000",
        ALLOWED_ORIGIN + "/",
        ALLOWED_ORIGIN.upper(),
    ):
        foreign = {**cookie, "Origin": origin}
        for path in ("/live", "/optional"):
            assert await running.outcome(path, foreign) == (1008, "foreign_origin"), origin


async def test_only_the_cookie_depends_on_the_origin(running: WebSocketApp) -> None:
    alice = await running.api.create_user()
    cookie = await running.cookie(alice)
    token = (await running.api.login(alice, strategy="token")).json()["access_token"]
    evil = {"Origin": "https://evil.example"}
    bearer = {"Authorization": f"Bearer {token}", **evil}
    assert await running.outcome("/live", bearer) == alice.email
    assert await running.outcome("/live", {**cookie, **bearer}) == alice.email
    # Without a valid credential there is no CSRF, so the response is the usual one.
    assert await running.outcome("/live", evil) == (4401, "unauthenticated")
    assert await running.outcome("/live", {"Cookie": "authapi=x", **evil}) == (
        4401,
        "unauthenticated",
    )


async def test_public_url_decides_the_own_origin(make_settings: SettingsFactory) -> None:
    public = "https://auth.example.com"
    async with opened(make_settings, public_url=f"{public}/auth") as running:
        alice = await running.api.create_user()
        cookie = await running.cookie(alice)
        assert await running.outcome("/live", {**cookie, "Origin": public}) == alice.email
        for origin in ("http://auth.example.com", f"{public}:8443", "http://127.0.0.1:8000"):
            foreign = {**cookie, "Origin": origin}  # the last equals the Host header
            assert await running.outcome("/live", foreign) == (1008, "foreign_origin"), origin


async def test_optional_gate_accepts_anonymous_websockets(running: WebSocketApp) -> None:
    alice = await running.api.create_user()
    cookie = await running.cookie(alice)
    assert await running.outcome("/optional") == "anonymous"
    assert await running.outcome("/optional", {"Cookie": "authapi=x"}) == "anonymous"
    assert await running.outcome("/optional", cookie) == "session"
    bad = {"Authorization": "Bearer x"}
    assert await running.outcome("/optional", bad) == (4401, "unauthenticated")
    assert await running.outcome("/optional", {**cookie, **bad}) == (4401, "unauthenticated")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "Bearer",
        "Bearer x",
        "Bearer\tx",
        "Token x",
        "DPoP abc",
        "aat_x",
        "Basic a, Bearer b",
    ],
)
async def test_cookie_does_not_replace_an_invalid_header(running: WebSocketApp, value: str) -> None:
    cookie = await running.cookie(await running.api.create_user())
    for path in ("/live", "/optional", "/cookie"):
        refused = await running.outcome(path, {**cookie, "Authorization": value})
        assert refused == (4401, "unauthenticated"), path


async def test_cookie_is_accepted_beside_a_credential_for_a_proxy(running: WebSocketApp) -> None:
    alice = await running.api.create_user()
    cookie = await running.cookie(alice)
    for value in ("Basic YTpi", "Digest username=x", "Negotiate YII", "NTLM TlRM"):
        headers = {**cookie, "Authorization": value}
        assert await running.outcome("/live", headers) == alice.email
        assert await running.outcome("/optional", headers) == "session"
        assert await running.outcome("/cookie", headers) == "in"


async def test_valid_token_is_refused_by_cookie_only_routes(running: WebSocketApp) -> None:
    alice = await running.api.create_user()
    cookie = await running.cookie(alice)
    token = (await running.api.login(alice, strategy="token")).json()["access_token"]
    headers = {**cookie, "Authorization": f"Bearer {token}"}
    assert await running.outcome("/live", headers) == alice.email
    assert await running.outcome("/cookie", headers) == (4401, "unauthenticated")
    assert await running.outcome("/cookie", cookie) == "in"
    assert await running.outcome("/both", headers) == "in"
    for refused in (
        cookie,
        {**cookie, "Authorization": "Bearer x"},
        {**cookie, "Authorization": ""},
    ):
        assert await running.outcome("/both", refused) == (4401, "unauthenticated")


async def test_unavailable_database_is_1013(
    running: WebSocketApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await running.api.create_user()
    cookie = await running.cookie(alice)

    def unavailable() -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(running.api.services.database, "read", unavailable)
    code, _ = await running.outcome("/live", cookie)
    assert code == 1013, "try again later (RFC 6455, registered close codes)"


async def test_unhandled_exception_refuses_the_handshake(
    running: WebSocketApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await running.api.create_user()
    cookie = await running.cookie(alice)

    def fail() -> Any:
        raise KeyError("x")

    monkeypatch.setattr(running.api.services.database, "read", fail)
    with pytest.raises(KeyError):  # the server answers 500 to the handshake
        await handshake(running.app, "/live", cookie)


async def test_other_refusals_of_a_handshake(running: WebSocketApp) -> None:
    code, reason = await running.outcome("/number/x")  # that of FastAPI
    assert code == 1008
    assert "int_parsing" in str(reason)
    long = {"Authorization": "Bearer " + "x" * 9000}
    assert (await running.outcome("/live", long))[0] == 1008
    assert (await handshake(running.app, "/nowhere"))[0]["type"] == "websocket.close"
