"""Gates on WebSocket routes: through a real server, and what the server is told."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.types import Message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from authapi import AuthAPI, Identity, User, current_identity, current_user
from authapi.crypto.secrets import new_opaque_token, new_secret
from authapi.errors import StorageUnavailable
from authapi.testing import PASSWORD, Client, acting_as, client
from tests.conftest import SettingsFactory
from tests.servers.process import ServeProcess, free_port

FRIEND = "https://app.example.com"
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

Headers = dict[str, str]


# Through a real server ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """A running service, and somebody with an account there."""

    host: str
    email: str

    @property
    def origin(self) -> str:
        """The origin of its own pages."""
        return f"http://{self.host}"

    def login(self, strategy: str) -> Headers:
        """A good credential."""
        body = {"email": self.email, "password": PASSWORD, "strategy": strategy}
        answer = httpx.post(f"{self.origin}/login", json=body, trust_env=False, timeout=20)
        if strategy == "session":
            return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def logout(self, headers: Headers) -> None:
        """End it."""
        url = f"{self.origin}/logout"
        answer = httpx.post(url, headers=headers, trust_env=False, timeout=20)
        assert answer.status_code == 204

    @asynccontextmanager
    async def open(
        self, path: str, headers: Headers, origin: str | None = None
    ) -> AsyncIterator[ClientConnection]:
        """A WebSocket to `path`."""
        async with connect(
            f"ws://{self.host}{path}",
            origin=None if origin is None else Origin(origin),
            additional_headers=headers,
            proxy=None,
            open_timeout=20,
        ) as found:
            yield found

    async def greeting(self, headers: Headers, origin: str | None = None) -> str:
        """What /live says to whom it lets in."""
        async with self.open("/live", headers, origin) as socket:
            hello = await socket.recv()
            await socket.send("echo")
            assert await socket.recv() == "echo"
            return str(hello)

    async def refusal(self, path: str, headers: Headers, origin: str | None = None) -> int:
        """The HTTP status that refuses the handshake."""
        with pytest.raises(InvalidStatus) as caught:
            async with self.open(path, headers, origin):
                pass
        return caught.value.response.status_code


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An application of somebody's own under uvicorn."""
    folder, port = tmp_path_factory.mktemp("websocket"), free_port()
    (folder / "live.py").write_text(PROGRAM, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_ALLOWED_ORIGINS": FRIEND,
    }
    command = [sys.executable, "-m", "uvicorn", "live:app", "--app-dir", str(folder)]
    with ServeProcess([*command, "--port", str(port)], environment, folder) as process:
        found = Service(f"127.0.0.1:{port}", "alice@example.com")
        process.wait_ready(f"{found.origin}/health/ready", timeout=60)
        account = {"email": found.email, "password": PASSWORD}
        made = httpx.post(f"{found.origin}/register", json=account, trust_env=False, timeout=20)
        assert made.status_code == 201
        yield found
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_a_good_credential_is_let_in(service: Service, strategy: str) -> None:
    headers = service.login(strategy)
    assert await service.greeting(headers) == f"hello {service.email}"


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
async def test_nobody_is_not(service: Service, headers: Headers) -> None:
    assert await service.refusal("/live", headers) == 401


async def test_a_token_in_the_url_is_none(service: Service) -> None:
    token = service.login("token")["Authorization"].removeprefix("Bearer ")
    assert await service.refusal(f"/live?token={token}&access_token={token}", {}) == 401


async def test_a_cookie_opens_only_for_pages_of_ours(service: Service) -> None:
    cookie = service.login("session")
    for origin in (service.origin, FRIEND):
        assert await service.greeting(cookie, origin) == f"hello {service.email}"
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        f"{service.origin}.evil.example",
        "http://app.example.com",
        f"{FRIEND}.evil.example",
        f"{FRIEND}:444",
    ):
        assert await service.refusal("/live", cookie, origin) == 403, origin


async def test_what_is_sent_on_purpose_needs_no_origin(service: Service) -> None:
    # No page of another origin can make a browser send it.
    token, cookie = service.login("token"), service.login("session")
    for headers in (token, {**token, **cookie}):
        assert await service.greeting(headers, "https://evil.example") == f"hello {service.email}"


async def test_a_session_that_has_ended_does_not_open(service: Service) -> None:
    for strategy in ("session", "token", "jwt"):
        headers = service.login(strategy)
        assert await service.greeting(headers) == f"hello {service.email}"
        service.logout(headers)
        assert await service.refusal("/live", headers) == 401


async def test_a_gate_refuses_too(service: Service) -> None:
    assert await service.refusal("/staff", service.login("token")) == 403


# What the server is told --------------------------------------------------------------------------


@dataclass(frozen=True)
class House:
    """An application with WebSocket routes, in this process."""

    app: FastAPI
    api: Client

    async def shake(self, path: str, headers: Headers | None = None) -> list[Message]:
        """What the application answers to a handshake."""
        raw = {"Host": "127.0.0.1:8000", **(headers or {})}
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in raw.items()],
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 8000),
            "subprotocols": [],
            "state": {},
        }
        incoming: list[Message] = [{"type": "websocket.connect"}]
        sent: list[Message] = []

        async def receive() -> Message:
            return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1005}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent

    async def outcome(self, path: str, headers: Headers | None = None) -> Any:
        """What was sent over an accepted socket, or the code and reason that refused it."""
        first, *rest = await self.shake(path, headers)
        if first["type"] == "websocket.close":
            assert rest == []
            return first["code"], first["reason"]
        assert first["type"] == "websocket.accept"
        return rest[0]["text"]

    async def cookie(self, user: User) -> Headers:
        """A good cookie."""
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
        await websocket.send_text("nobody" if identity is None else identity.strategy)

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
async def opened(make_settings: SettingsFactory, **changes: object) -> AsyncIterator[House]:
    app = websocket_app(AuthAPI(make_settings(scopes={"a": "A"}, **changes)))
    async with client(app) as api:
        yield House(app, api)


@pytest.fixture
async def house(make_settings: SettingsFactory) -> AsyncIterator[House]:
    async with opened(make_settings, allowed_origins=(FRIEND,)) as found:
        yield found


async def test_who_are_you_is_4401(house: House) -> None:
    for headers in (
        {},
        {"Cookie": "authapi=x"},
        {"Cookie": f"authapi={new_secret()}"},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Bearer {new_opaque_token()}"},
    ):
        assert await house.outcome("/live", headers) == (4401, "unauthenticated"), headers


async def test_gates_in_their_codes(house: House) -> None:
    alice = await house.api.create_user()
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with acting_as(replace(alice, is_active=False)):
        assert await house.outcome("/live") == (4401, "inactive_account")
    with acting_as(alice, auth_time=long_ago):
        assert await house.outcome("/fresh") == (4401, "stale_authentication")
    with acting_as(alice):
        assert await house.outcome("/live") == alice.email
        assert await house.outcome("/fresh") == "in"
        assert await house.outcome("/scoped") == (1008, "insufficient_scope")
        assert await house.outcome("/verified") == (1008, "email_not_confirmed")
        assert await house.outcome("/staff") == (1008, "superuser_required")
    powerful = replace(alice, is_superuser=True, email_confirmed_at=long_ago)
    with acting_as(powerful, scopes={"a"}):
        for path in ("/scoped", "/verified", "/staff"):
            assert await house.outcome(path) == "in"


async def test_a_foreign_page_is_1008(house: House) -> None:
    alice = await house.api.create_user()
    cookie = await house.cookie(alice)
    for origin in ("http://127.0.0.1:8000", FRIEND):
        assert await house.outcome("/live", {**cookie, "Origin": origin}) == alice.email
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
        FRIEND + "/",
        FRIEND.upper(),
    ):
        foreign = {**cookie, "Origin": origin}
        for path in ("/live", "/optional"):
            assert await house.outcome(path, foreign) == (1008, "foreign_origin"), origin


async def test_only_the_cookie_depends_on_the_page(house: House) -> None:
    alice = await house.api.create_user()
    cookie = await house.cookie(alice)
    token = (await house.api.login(alice, strategy="token")).json()["access_token"]
    evil = {"Origin": "https://evil.example"}
    bearer = {"Authorization": f"Bearer {token}", **evil}
    assert await house.outcome("/live", bearer) == alice.email
    assert await house.outcome("/live", {**cookie, **bearer}) == alice.email
    # Nothing good is to be protected from the page: the answer is the usual one.
    assert await house.outcome("/live", evil) == (4401, "unauthenticated")
    assert await house.outcome("/live", {"Cookie": "authapi=x", **evil}) == (
        4401,
        "unauthenticated",
    )


async def test_the_public_url_decides_which_pages_are_ours(make_settings: SettingsFactory) -> None:
    public = "https://auth.example.com"
    async with opened(make_settings, public_url=f"{public}/auth") as house:
        alice = await house.api.create_user()
        cookie = await house.cookie(alice)
        assert await house.outcome("/live", {**cookie, "Origin": public}) == alice.email
        for origin in ("http://auth.example.com", f"{public}:8443", "http://127.0.0.1:8000"):
            foreign = {**cookie, "Origin": origin}  # the last is what the Host header says
            assert await house.outcome("/live", foreign) == (1008, "foreign_origin"), origin


async def test_optional(house: House) -> None:
    alice = await house.api.create_user()
    cookie = await house.cookie(alice)
    assert await house.outcome("/optional") == "nobody"
    assert await house.outcome("/optional", {"Cookie": "authapi=x"}) == "nobody"
    assert await house.outcome("/optional", cookie) == "session"
    bad = {"Authorization": "Bearer x"}
    assert await house.outcome("/optional", bad) == (4401, "unauthenticated")
    assert await house.outcome("/optional", {**cookie, **bad}) == (4401, "unauthenticated")


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
async def test_a_cookie_does_not_answer_for_a_bad_header(house: House, value: str) -> None:
    cookie = await house.cookie(await house.api.create_user())
    for path in ("/live", "/optional", "/cookie"):
        refused = await house.outcome(path, {**cookie, "Authorization": value})
        assert refused == (4401, "unauthenticated"), path


async def test_a_cookie_answers_beside_the_credential_of_a_proxy(house: House) -> None:
    alice = await house.api.create_user()
    cookie = await house.cookie(alice)
    for value in ("Basic YTpi", "Digest username=x", "Negotiate YII", "NTLM TlRM"):
        headers = {**cookie, "Authorization": value}
        assert await house.outcome("/live", headers) == alice.email
        assert await house.outcome("/optional", headers) == "session"
        assert await house.outcome("/cookie", headers) == "in"


async def test_a_good_token_does_not_open_what_takes_the_cookie_only(house: House) -> None:
    alice = await house.api.create_user()
    cookie = await house.cookie(alice)
    token = (await house.api.login(alice, strategy="token")).json()["access_token"]
    headers = {**cookie, "Authorization": f"Bearer {token}"}
    assert await house.outcome("/live", headers) == alice.email
    assert await house.outcome("/cookie", headers) == (4401, "unauthenticated")
    assert await house.outcome("/cookie", cookie) == "in"
    assert await house.outcome("/both", headers) == "in"
    for refused in (
        cookie,
        {**cookie, "Authorization": "Bearer x"},
        {**cookie, "Authorization": ""},
    ):
        assert await house.outcome("/both", refused) == (4401, "unauthenticated")


async def test_a_database_that_is_away_is_1013(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await house.api.create_user()
    cookie = await house.cookie(alice)

    def away() -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(house.api.services.database, "read", away)
    code, _ = await house.outcome("/live", cookie)
    assert code == 1013, "try again later (RFC 6455, registered close codes)"


async def test_what_nobody_foresaw_opens_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await house.api.create_user()
    cookie = await house.cookie(alice)

    def fail() -> Any:
        raise KeyError("x")

    monkeypatch.setattr(house.api.services.database, "read", fail)
    with pytest.raises(KeyError):  # the server answers 500 to the handshake
        await house.shake("/live", cookie)


async def test_other_refusals_of_a_handshake(house: House) -> None:
    assert await house.outcome("/number/x") == (1008, "validation_failed")
    long = {"Authorization": "Bearer " + "x" * 9000}
    assert (await house.outcome("/live", long))[0] == 1008
    assert (await house.shake("/nowhere"))[0]["type"] == "websocket.close"
