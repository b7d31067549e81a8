"""An application with one strategy under test, for `strategy_contract`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from authapi import AuthAPI, Challenge, Identity, Settings, Strategy, User, current_identity
from authapi.storage.inspection import record_statements
from authapi.strategies.registry import Registry
from authapi.testing.client import PASSWORD, Client, client

RECORDING = "authapi.testing.strategy_harness:RecordingStrategy"

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Credential:
    """A credential: its request headers, and the secret part of them."""

    headers: Headers
    secret: str


class RecordingStrategy(Strategy[User]):
    """A strategy that the resolver tries last. It counts its calls, and may have a caller."""

    name = "recording"
    ambient = True

    caller: User | None = None
    calls = 0

    def read(self, connection: HTTPConnection) -> User | None:
        self.calls += 1
        return self.caller

    async def authenticate(self, credential: User, connection: HTTPConnection) -> Identity:
        return Identity(
            user=credential,
            strategy=self.name,
            session_id=None,
            scopes=frozenset(),
            auth_time=credential.created_at,
            amr=(),
            expires_at=None,
        )

    def challenge(self) -> Challenge:
        return Challenge("RecordingStrategy")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "header", "name": "X-RecordingStrategy"}


@dataclass
class Harness:
    """An importing application with the strategy under test."""

    app: FastAPI
    api: Client
    strategy: Strategy[Any]
    recording: RecordingStrategy
    alice: User

    @property
    def name(self) -> str:
        """The name of the strategy under test."""
        return self.strategy.name

    async def get(self, path: str, credential: Credential | Headers | None = None) -> Any:
        """Sends GET with exactly this credential; returns the response."""
        return await self.request("GET", path, credential)

    async def request(
        self,
        method: str,
        path: str,
        credential: Credential | Headers | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Sends a request with exactly this credential. Cookies of the response are not stored."""
        headers = credential.headers if isinstance(credential, Credential) else credential or {}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        response = await self.api.request(method, path, headers=raw, **options)
        self.api.cookies.clear()
        return response

    async def login(self, strategy: str, user: User, **options: Any) -> httpx.Response:
        """Logs in; returns the response."""
        body = {"email": user.email, "password": PASSWORD, "strategy": strategy, **options}
        response = await self.request("POST", "/login", json=body)
        assert response.status_code == 200, response.text
        return response

    async def cookie(self, user: User) -> Credential:
        """Logs in with a cookie, to manage the account of `user`."""
        return cookie_of(await self.login("session", user))


@asynccontextmanager
async def open_harness(spec: str, database_url: str, **changes: object) -> AsyncIterator[Harness]:
    """Runs an application with the strategies `spec`, session and `RecordingStrategy`."""
    named = tuple(dict.fromkeys((spec, "session", RECORDING)))
    values = {"database_url": database_url, "strategies": named, **changes}
    auth = AuthAPI(Settings(**values))  # type: ignore[arg-type]  # pydantic validates
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with harness_for(app, auth.runtime.registry) as harness:
        yield harness


@asynccontextmanager
async def harness_for(app: FastAPI, registry: Registry) -> AsyncIterator[Harness]:
    """Runs `app`. The first strategy of `registry` is under test; one is `RecordingStrategy`."""
    strategy, recording = next(iter(registry)), registry["recording"]
    assert isinstance(recording, RecordingStrategy)
    mine = Annotated[Identity, Depends(current_identity(strategy.name))]
    either = Annotated[Identity, Depends(current_identity(strategy.name, "recording"))]

    @app.get("/async")
    async def in_async(identity: mine) -> dict[str, object]:
        return _describe(identity)

    @app.get("/sync")
    def in_sync(identity: mine) -> dict[str, object]:
        return _describe(identity)

    @app.get("/either")
    async def in_either(identity: either) -> dict[str, object]:
        return _describe(identity)

    async with client(app) as api:
        alice = await api.create_user()
        yield Harness(app, api, strategy, recording, alice)


def cookie_of(response: httpx.Response) -> Credential:
    """Returns the cookie that a response sets."""
    pair = response.headers["set-cookie"].partition(";")[0]
    return Credential({"Cookie": pair}, pair.partition("=")[2])


def bearer_of(response: httpx.Response) -> Credential:
    """Returns the bearer token in a response."""
    token = response.json()["access_token"]
    return Credential({"Authorization": f"Bearer {token}"}, token)


def refusal(response: httpx.Response) -> dict[str, Any]:
    """Checks a 401 response; returns its body without the request id."""
    assert response.status_code == 401, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    request_id = body.pop("request_id")
    # Routes of an application have no request id in their headers.
    assert response.headers.get("x-request-id", request_id) == request_id
    assert response.headers["cache-control"] == "no-store"
    assert isinstance(body, dict)
    return body


def statements(api: Client) -> AbstractContextManager[list[str]]:
    """Records the SQL statements of the application inside the block."""
    return record_statements(api.services.database)


def connection(headers: Headers) -> HTTPConnection:
    """Returns a connection with these headers, as a strategy receives it."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw, "client": None})


def _describe(identity: Identity) -> dict[str, object]:
    return {
        "user_id": identity.user.id,
        "strategy": identity.strategy,
        "session_id": identity.session_id,
        "amr": identity.amr,
        "auth_time": identity.auth_time,
        "expires_at": identity.expires_at,
    }
