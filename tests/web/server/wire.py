"""`HTTPProtocol` on an in-memory connection, with an application that records requests."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from authapi import HTTPProtocol
from authapi.web.server.limits import discard_body

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Seen:
    """A request as the application received it."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    ended: bool = False
    """Whether the whole body was received."""


class Memory(asyncio.Transport):
    """The server's end of a connection; `sent` has the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.protocol: asyncio.Protocol | None = None
        self.is_closed = asyncio.Event()
        self.is_half_closed = asyncio.Event()
        self.paused = False

    @property
    def closed(self) -> bool:
        return self.is_closed.is_set()

    @property
    def half_closed(self) -> bool:
        return self.is_half_closed.is_set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.7", 40000), "sockname": ("192.0.2.1", 80)}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.sent += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_half_closed.set()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.is_closed.set()
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass
class Wire:
    """An open connection. Create it inside a running event loop."""

    state: dict[str, Any] = field(default_factory=dict)
    reads_body: bool = True
    """Whether the application reads the body before it answers."""
    discarded: int | None = None
    """Bytes of a body that the application has discarded after its answer; None for the default."""
    ws: Any = "websockets-sansio"
    kind: type[asyncio.Protocol] = HTTPProtocol
    seen: list[Seen] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """The application answers no request before this is set."""

    def __post_init__(self) -> None:
        self.gate.set()
        config = Config(self._app, ws=self.ws, lifespan="off", log_config=None, interface="asgi3")
        config.load()
        self.transport = Memory()
        protocol = self.kind(  # type: ignore[call-arg]  # uvicorn's, whose type asyncio does not know
            config=config, server_state=ServerState(), app_state=self.state
        )
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self.seen.append(Seen("websocket", scope["path"], scope["headers"]))
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        request = Seen(scope["method"], scope["path"], scope["headers"])
        self.seen.append(request)
        if self.discarded is not None:
            discard_body(scope, self.discarded)
        while self.reads_body:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                return
            request.body += message["body"]
            if not message["more_body"]:
                request.ended = True
                break
        await self.gate.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    def feed(self, data: bytes) -> bool:
        """Passes `data` to the protocol; returns False if the connection is closed."""
        if self.transport.closed:
            return False
        assert self.transport.protocol is not None
        self.transport.protocol.data_received(data)
        return True

    async def send(self, packets: Iterable[bytes]) -> None:
        """Feeds `packets`, and lets the application run after each."""
        for packet in packets:
            if not self.feed(packet):
                return
            await settled()

    @property
    def statuses(self) -> list[int]:
        """The status of each response, in order."""
        lines = bytes(self.transport.sent).split(b"HTTP/1.1 ")[1:]
        return [int(line[:3]) for line in lines]

    @property
    def requests(self) -> Sequence[tuple[str, str, bytes]]:
        """Method, path and body of each request that the application received."""
        return [(item.method, item.path, item.body) for item in self.seen]


async def settled() -> None:
    """Runs the event loop until all ready callbacks are done; no timer is awaited."""
    for _ in range(12):
        await asyncio.sleep(0)
