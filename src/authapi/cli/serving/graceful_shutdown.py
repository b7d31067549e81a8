"""Delays the shutdown after SIGTERM by `shutdown_delay`, so that load balancers can react.

A load balancer learns from `/health/ready` that a process is shutting down, but only at its next
check. Until then it opens connections. Without the delay, a connection that arrives while the
listening socket closes would be reset.
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
from authapi.settings import Settings, warn_unknown_settings
from authapi.web.context import context_of
from authapi.web.problems import problem_from_error

_READY = "/health/ready"


def create_worker() -> FastAPI:
    """Builds the service in a worker process."""
    auth, app = create_service()
    warn_unknown_settings(type(auth.settings), silently=True)  # the supervisor has logged it
    return with_graceful_shutdown(app, auth.settings)


def with_graceful_shutdown(app: FastAPI, settings: Settings) -> FastAPI:
    """Adds the delay of the setting `shutdown_delay` to `app`, unless it is 0. Returns `app`."""
    if settings.shutdown_delay:
        # Innermost, so that its responses pass through the other middleware. `add_middleware` would
        # put it outermost.
        app.user_middleware.append(
            Middleware(GracefulShutdown, settings.shutdown_delay, is_worker=settings.workers > 1)
        )
    return app


class GracefulShutdown:
    """Middleware that handles requests for `delay` seconds after SIGTERM, then stops the server.

    During the delay, `GET /health/ready` gets 503 (ShuttingDown) and each response has
    `Connection: close`. The lifespan must run in the main thread, after uvicorn has installed its
    signal handlers. Later signals go to those handlers at once.
    """

    def __init__(self, app: ASGIApp, delay: float, *, is_worker: bool) -> None:
        self._app = app
        self._delay = delay
        self._is_worker = is_worker
        self._is_shutting_down = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._install_handler(asyncio.get_running_loop())
        if scope["type"] != "http" or not self._is_shutting_down:
            await self._app(scope, receive, send)
            return

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: MutableSequence[tuple[bytes, bytes]] = message.setdefault("headers", [])
                message["headers"] = [*headers, (b"connection", b"close")]
            await send(message)

        if scope["path"] == _READY and scope["method"] == "GET":
            response = problem_from_error(ShuttingDown(), context_of(HTTPConnection(scope)))
            await response(scope, receive, send_and_close)
        else:
            await self._app(scope, receive, send_and_close)

    def _install_handler(self, loop: asyncio.AbstractEventLoop) -> None:
        server_handler = signal.getsignal(signal.SIGTERM)
        if not callable(server_handler):
            raise RuntimeError("no SIGTERM handler of the server is installed")
        self._is_shutting_down = False

        def on_signal(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGTERM and not self._is_shutting_down:
                self._is_shutting_down = True
                loop.call_soon_threadsafe(
                    loop.call_later, self._delay, server_handler, number, None
                )
            elif number != signal.SIGTERM or not self._is_worker:
                # A worker gets SIGTERM twice if all processes get it, as systemd sends it.
                server_handler(number, frame)

        signal.signal(signal.SIGTERM, on_signal)


class Supervisor(Multiprocess):
    """Supervisor of uvicorn that passes a second signal on to its workers.

    The one of uvicorn ignores it, and waits until the workers have finished.
    """

    _signal_count = 0
    """How many termination signals have arrived."""

    def handle_int(self) -> None:
        self._signal_count += 1
        super().handle_int()

    def handle_term(self) -> None:
        self._signal_count += 1
        super().handle_term()

    def join_all(self) -> None:
        handled = 1
        while any(worker.process.is_alive() for worker in self.processes):
            while self.signal_queue:
                self._signal_count += self.signal_queue.pop() in HANDLED_SIGNALS
            if self._signal_count > handled:
                handled = self._signal_count
                for worker in self.processes:
                    if worker.process.is_alive() and worker.pid is not None:
                        os.kill(worker.pid, signal.SIGINT)
            time.sleep(0.1)
        super().join_all()
