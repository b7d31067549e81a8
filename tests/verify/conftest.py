"""An issuer, a clock that tests advance, and applications that trust the issuer."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
import time_machine
from fastapi import Depends, FastAPI, WebSocket

from authapi import Identity, Strategy, User, current_identity, current_user
from authapi.testing import Client, client
from authapi.verify import EdgeSettings, RemoteJWT, ResourceServer
from tests.crypto import forgery
from tests.verify.issuer import AUDIENCE, Issuer

Opened = AbstractAsyncContextManager[Client]
Open = Callable[..., Opened]


class Clock:
    """Replaces the wall clock and the monotonic clock. Time stands still until a test moves it."""

    def __init__(self, traveller: time_machine.Traveller) -> None:
        self._traveller = traveller
        self._base = time.monotonic()
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._base + self._ahead

    def move(self, seconds: float) -> None:
        self._ahead += seconds
        self._traveller.shift(seconds)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as found:
        yield found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    moment = datetime.fromtimestamp(forgery.NOW, UTC)
    with time_machine.travel(moment, tick=False) as traveller:
        found = Clock(traveller)
        for module in ("outbound.issuers.keys", "outbound.issuers.backoff", "verify.ttl_cache"):
            monkeypatch.setattr(f"authapi.{module}.monotonic", found)
        yield found


@pytest.fixture
def trusting(issuer: Issuer) -> Open:
    """Opens an application with the given strategies, by default one for the issuer."""

    def opened(*strategies: Strategy[Any], settings: EdgeSettings | None = None) -> Opened:
        return open_app(*strategies or (RemoteJWT(issuer.url, AUDIENCE),), settings=settings)

    return opened


@asynccontextmanager
async def open_app(
    *strategies: Strategy[Any], settings: EdgeSettings | None = None
) -> AsyncIterator[Client]:
    async with client(application(*strategies, settings=settings)) as api:
        yield api


def application(*strategies: Strategy[Any], settings: EdgeSettings | None = None) -> FastAPI:
    """Builds a resource server with one route per kind of gate."""
    auth = ResourceServer(*strategies, settings=settings)
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    auth.install(app)

    @app.get("/who")
    async def who(identity: Annotated[Identity, Depends(current_identity())]) -> dict[str, object]:
        return {
            "user_id": identity.user.id,
            "email": identity.user.email,
            "strategy": identity.strategy,
            "session_id": identity.session_id,
            "scopes": sorted(identity.scopes),
            "amr": identity.amr,
            "claims": sorted(identity.claims),
        }

    @app.get("/orders")
    def orders(user: Annotated[User, Depends(current_user(scopes={"orders:read"}))]) -> str:
        return str(user.id)

    @app.get("/fresh")
    async def fresh(user: Annotated[User, Depends(current_user(fresh=True))]) -> str:
        return str(user.id)

    @app.get("/verified")
    async def verified(user: Annotated[User, Depends(current_user(verified=True))]) -> str:
        return user.email

    @app.get("/staff")
    async def staff(user: Annotated[User, Depends(current_user(superuser=True))]) -> str:
        return user.email

    @app.get("/maybe")
    async def maybe(user: Annotated[User | None, Depends(current_user(optional=True))]) -> bool:
        return user is not None

    @app.websocket("/live")
    async def live(
        websocket: WebSocket, user: Annotated[User, Depends(current_user(scopes={"orders:read"}))]
    ) -> None:
        await websocket.accept()
        await websocket.send_text(str(user.id))
        await websocket.close()

    return app


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
