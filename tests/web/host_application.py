"""An application with routes and middleware of its own, in which authapi is a guest or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from fastapi import (
    APIRouter,
    BackgroundTasks,
    FastAPI,
    HTTPException,
    Request,
    Response,
    WebSocket,
    WebSocketException,
)
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from authapi import AuthAPI

ORIGIN = "https://shop.example"


class Item(BaseModel):
    name: str
    price: float


class OutOfStock(Exception):
    """An error of the application."""


def build(auth: AuthAPI | None, folder: Path, *, handles_errors: bool) -> FastAPI:
    """Returns the application, with `auth` installed unless it is None.

    With `handles_errors`, it has handlers for every kind of error. `folder` has the static files.
    """
    app = FastAPI(lifespan=None if auth is None else auth.lifespan)
    (folder / "page.html").write_text("<p>page</p>" * 100)
    app.mount("/static", StaticFiles(directory=folder), name="static")
    app.include_router(_before, prefix="/early")
    if auth is not None:
        auth.install(app)
    app.include_router(_routes)
    app.mount("/sub", _mounted())
    app.add_middleware(BaseHTTPMiddleware, dispatch=_with_header)
    app.add_middleware(GZipMiddleware, minimum_size=500)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[ORIGIN],
        allow_methods=["GET", "PUT", "POST"],
        allow_headers=["X-Shop", "Authorization"],
        expose_headers=["X-Total"],
        allow_credentials=True,
    )
    app.add_exception_handler(OutOfStock, _out_of_stock)
    if handles_errors:
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(Exception, _unexpected)
    return app


async def _with_header(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["X-Shop"] = request.method
    return response


async def _out_of_stock(_: Request, error: Exception) -> Response:
    return JSONResponse({"stock": str(error)}, 418)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"mine": error.detail}, error.status_code, headers=error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"fields": [item["loc"] for item in error.errors()]}, 400)


async def _unexpected(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"sorry: {error}", 500)


_before = APIRouter()


@_before.get("/items")
async def early() -> list[str]:
    return ["early"]


_routes = APIRouter()


@_routes.get("/items")
async def read_items(response: Response) -> list[Item]:
    response.headers["X-Total"] = "1"
    response.set_cookie("seen", "1")
    return [Item(name="tea", price=2.5)]


@_routes.post("/items", status_code=201)
async def add_item(item: Item, tasks: BackgroundTasks) -> Item:
    tasks.add_task(asyncio.sleep, 0)
    return item


@_routes.head("/headed")
async def headed() -> Response:
    return Response(headers={"X-Head": "mine"})


@_routes.get("/headed")
def got() -> str:
    return "got"


@_routes.put("/items/{number}")
def put_item(number: int, item: Item) -> int:
    return number


@_routes.get("/slashed/")
def slashed() -> str:
    return "slashed"


@_routes.get("/gone")
async def gone() -> None:
    raise HTTPException(404, "No such item")


@_routes.get("/conflict")
async def conflict() -> None:
    raise HTTPException(409, {"stock": 0, "names": ["a"]}, headers={"X-Stock": "0"})


@_routes.get("/teapot")
async def teapot() -> None:
    raise OutOfStock("tea")


@_routes.get("/broken")
async def broken() -> None:
    raise LookupError("lost")


@_routes.get("/invalid")
async def invalid() -> None:
    raise RequestValidationError([{"loc": ("body", "x"), "msg": "no", "type": "own"}])


@_routes.get("/cached")
async def cached() -> Response:
    return Response("x", headers={"Cache-Control": "public, max-age=60", "Vary": "Accept"})


@_routes.get("/headers")
async def headers(request: Request) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw]


@_routes.get("/files/{name:path}")
async def file(name: str, request: Request) -> list[str]:
    return [name, request.scope["raw_path"].decode(), request.url.path]


@_routes.get("/account/orders")
async def orders(token: str) -> str:
    return token


@_routes.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"part %d\n" % number
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


@_routes.get("/endless")
async def endless() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"tick\n"
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/event-stream")


@_routes.get("/half")
async def half() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("half")

    return StreamingResponse(parts())


@_routes.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept(headers=[(b"x-echo", b"1")])
    await socket.send_text(await socket.receive_text())
    await socket.close(4000, "done")


@_routes.websocket("/closed")
async def closed(socket: WebSocket) -> None:
    await socket.close(4001, "not now")


@_routes.websocket("/denied")
async def denied(socket: WebSocket) -> None:
    await socket.send_denial_response(JSONResponse({"denied": True}, 402))


@_routes.websocket("/refused")
async def refused() -> None:
    raise WebSocketException(4002, "refused")


@_routes.websocket("/failing")
async def failing() -> None:
    raise HTTPException(403, "failing")


@_routes.websocket("/numbered/{number}")
async def numbered(number: int, socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(4000, str(number))


def _mounted() -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    def items() -> list[str]:
        return ["mounted"]

    @app.get("/broken")
    def broken_below() -> None:
        raise LookupError("below")

    return app
