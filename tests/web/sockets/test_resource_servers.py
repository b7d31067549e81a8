"""Open WebSockets of a resource server, which has no database: they end with their token."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.types import Message

from authapi import Identity, current_identity, identity_is_live, live_messages
from authapi.clock import now
from authapi.testing import client
from authapi.verify import RemoteJWT, ResourceServer
from tests.verify.issuer import AUDIENCE, Issuer
from tests.web.asgi import scope_of


class Peer:
    """A client in this process that never leaves."""

    def __init__(self, token: str) -> None:
        self.scope = scope_of(
            "GET",
            b"/live",
            headers=[(b"authorization", f"Bearer {token}".encode())],
            kind="websocket",
        )
        self.sent: list[Message] = []
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.say({"type": "websocket.connect"})

    def say(self, message: Message) -> None:
        self._incoming.put_nowait(message)

    async def receive(self) -> Message:
        return await self._incoming.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def application(issuer: Issuer, lives: list[bool], *, accepts: bool = True) -> FastAPI:
    auth = ResourceServer(RemoteJWT(issuer.url, AUDIENCE))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.websocket("/live")
    async def live(
        websocket: WebSocket, caller: Annotated[Identity, Depends(current_identity())]
    ) -> None:
        if accepts:
            await websocket.accept()
        lives.append(await identity_is_live(websocket, caller))
        async for message in live_messages(websocket, caller):
            await websocket.send_text(str(message))
        lives.append(await identity_is_live(websocket, caller))

    return app


def short_token(issuer: Issuer, seconds: int, **more: Any) -> str:
    at = int(now().timestamp())
    return issuer.token(iat=at, exp=at + seconds, **more)


async def test_socket_ends_at_the_expiry_of_its_token() -> None:
    lives: list[bool] = []
    with Issuer() as issuer:
        app = application(issuer, lives)
        async with client(app), asyncio.timeout(30):
            peer = Peer(short_token(issuer, 2))
            peer.say({"type": "websocket.receive", "text": "hello"})
            await app(peer.scope, peer.receive, peer.send)
    assert [message["type"] for message in peer.sent] == [
        *("websocket.accept", "websocket.send", "websocket.close")
    ]
    assert peer.sent[1]["text"] == "hello"
    assert (peer.sent[2]["code"], peer.sent[2]["reason"]) == (4401, "session_ended")
    assert lives == [True, False]


async def test_shutdown_closes_open_sockets() -> None:
    lives: list[bool] = []
    with Issuer() as issuer:
        app = application(issuer, lives)
        async with asyncio.timeout(30):
            async with client(app):
                peer = Peer(short_token(issuer, 600))
                peer.say({"type": "websocket.receive", "bytes": b"hello"})
                handler = asyncio.create_task(app(peer.scope, peer.receive, peer.send))
                while len(peer.sent) < 2:  # noqa: ASYNC110  # the messages are the event
                    await asyncio.sleep(0.001)
            await handler
    assert (peer.sent[-1]["code"], peer.sent[-1]["reason"]) == (1012, "service_stopped")
    assert lives == [True, True]


async def test_socket_has_to_be_accepted_first() -> None:
    with Issuer() as issuer:
        app = application(issuer, [], accepts=False)
        async with client(app), asyncio.timeout(30):
            peer = Peer(short_token(issuer, 600))
            with pytest.raises(RuntimeError, match=r"websocket\.accept\(\)"):
                await app(peer.scope, peer.receive, peer.send)
