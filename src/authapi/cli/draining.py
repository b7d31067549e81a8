"""What SIGTERM begins when `shutdown_delay` is set: going on, while balancers look elsewhere.

A balancer learns from `/health/ready` that a process is about to end, but not before it asks. Until
then it opens connections, and one that arrives while the listening socket closes is reset unheard.
"""

import asyncio
import os
import signal
import time
from collections.abc import MutableSequence
from types import FrameType

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import HANDLED_SIGNALS
from uvicorn.supervisors import Multiprocess

from authapi.app import create_service
from authapi.errors import ShuttingDown
from authapi.settings import Settings, warn_of_unknown_settings
from authapi.web.context import context_of
from authapi.web.errors import problem_for

_READY = "/health/ready"


def create_worker() -> FastAPI:
    """The service, as one of several workers runs it."""
    auth, app = create_service()
    warn_of_unknown_settings(type(auth.settings), silently=True)  # the supervisor has
    return drained(app, auth.settings)


def drained(app: FastAPI, settings: Settings) -> FastAPI:
    """`app`, which waits for `shutdown_delay` after SIGTERM."""
    if settings.shutdown_delay:
        # Innermost, where `add_middleware` would put it outermost: what it answers passes the edge.
        app.user_middleware.append(
            Middleware(Draining, settings.shutdown_delay, is_worker=settings.workers > 1)
        )
    return app


class Draining:
    """Serves on for `delay` seconds after SIGTERM: not ready, and each answer ends its connection.

    The lifespan has to run in the main thread, where uvicorn has installed its signal handlers.
    What comes after the first SIGTERM is theirs at once.
    """

    def __init__(self, app: ASGIApp, delay: float, *, is_worker: bool) -> None:
        self._app = app
        self._delay = delay
        self._is_worker = is_worker
        self._has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._take_over(asyncio.get_running_loop())
        if scope["type"] != "http" or not self._has_begun:
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: MutableSequence[tuple[bytes, bytes]] = message.setdefault("headers", [])
                message["headers"] = [*headers, (b"connection", b"close")]
            await send(message)

        if scope["path"] == _READY and scope["method"] == "GET":
            response = problem_for(ShuttingDown(), context_of(HTTPConnection(scope)))
            await response(scope, receive, send_last)
        else:
            await self._app(scope, receive, send_last)

    def _take_over(self, loop: asyncio.AbstractEventLoop) -> None:
        server = signal.getsignal(signal.SIGTERM)
        if not callable(server):
            raise RuntimeError("SIGTERM has no handler yet that ends the server")
        self._has_begun = False

        def on_signal(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGTERM and not self._has_begun:
                self._has_begun = True
                loop.call_soon_threadsafe(loop.call_later, self._delay, server, number, None)
            elif number != signal.SIGTERM or not self._is_worker:
                # A worker hears SIGTERM twice where all processes are sent it, as systemd does.
                server(number, frame)

        signal.signal(signal.SIGTERM, on_signal)


class Supervisor(Multiprocess):
    """uvicorn's, which passes on a second signal: it would wait until the workers are done."""

    _asked = 0
    """How often it was told to end."""

    def handle_int(self) -> None:
        self._asked += 1
        super().handle_int()

    def handle_term(self) -> None:
        self._asked += 1
        super().handle_term()

    def join_all(self) -> None:
        heard = 1
        while any(worker.process.is_alive() for worker in self.processes):
            while self.signal_queue:
                self._asked += self.signal_queue.pop() in HANDLED_SIGNALS
            if self._asked > heard:
                heard = self._asked
                for worker in self.processes:
                    if worker.process.is_alive() and worker.pid is not None:
                        os.kill(worker.pid, signal.SIGINT)
            time.sleep(0.1)
        super().join_all()
