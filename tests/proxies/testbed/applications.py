"""Applications for tests of proxies and servers; uvicorn runs them as `MODULE:NAME`.

`Recorded` prints each request that reaches an application, as the server has parsed it. `imported`
imports authapi. `surrounded` does too, and adds middleware after `install`. `verifying` is a
resource server, which accepts the tokens of another service.
"""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from authapi import AuthAPI, User, current_user
from authapi.verify import RemoteJWT, ResourceServer, TokenPolicy

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
ORIGIN = "https://app.example.com"
ISSUER = os.environ.get("TEST_ISSUER", "http://127.0.0.1:8000")
KEYS = os.environ.get("TEST_KEYS", "http://127.0.0.1:8000/.well-known/jwks.json")


class Recorded:
    """Wraps an application; prints `seen METHOD TARGET` before each request is handled."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            method = scope.get("method", "WEBSOCKET")
            print("seen", method, scope["path"] + "?" + scope["query_string"].decode(), flush=True)  # noqa: T201
        await self._app(scope, receive, send)


class Closed:
    """Answers requests below /closed itself, so that inner middleware does not see them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/closed"):
            await PlainTextResponse("closed", status_code=503)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _add_routes(app: FastAPI) -> None:
    gate = Depends(current_user())

    async def echo(request: Request, user: Annotated[User, gate]) -> dict[str, Any]:
        return {"length": len(await request.body()), "id": str(user.id), "email": user.email}

    async def public(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    async def live(websocket: WebSocket, user: Annotated[User, gate]) -> None:
        await websocket.accept()
        await websocket.send_text(str(user.id))
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app.add_api_route("/echo", echo, methods=METHODS)
    app.add_api_route("/public", public, methods=METHODS)
    app.add_api_websocket_route("/live", live)


def _imported() -> FastAPI:
    auth = AuthAPI()
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, governs_app=True)
    _add_routes(app)
    return app


def _surrounded() -> FastAPI:
    app = _imported()
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_methods=["POST"])
    app.add_middleware(Closed)
    return app


def _verifying() -> FastAPI:
    auth = ResourceServer(RemoteJWT(ISSUER, "authapi", policy=TokenPolicy(jwks_url=KEYS)))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, governs_app=True)
    _add_routes(app)
    return app


def imported() -> ASGIApp:
    return Recorded(_imported())


def surrounded() -> ASGIApp:
    return Recorded(_surrounded())


def verifying() -> ASGIApp:
    return Recorded(_verifying())
