"""The outermost layer of an application in which authapi is a guest.

A request for a path of authapi gets everything that the service does for its requests. For any
other request, only what a gate needs is provided: a context, created at its first use, the client,
and the headers that a response to a recognised caller needs. Status, headers and body of routes
without a gate are those of the application alone.
"""

from collections.abc import Awaitable, Iterable

from fastapi import APIRouter, FastAPI
from opentelemetry import trace
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authapi.crypto.ids import RequestIds
from authapi.domain.client import (
    Client,
    Peer,
    on_behalf_of,
    read_client,
    reset_client,
    set_client,
)
from authapi.errors import NotFound
from authapi.web.answers.open_socket import OpenSocket
from authapi.web.answers.private_responses import with_headers_of_gate
from authapi.web.context import SCOPE_KEY, RequestContext, Runtime, Visit, VisitByWebSocket
from authapi.web.middleware.client import log_malformed_address, trusted_networks
from authapi.web.middleware.cors import without_cors_headers
from authapi.web.middleware.header_inspection import HeaderInspection, UpgradeProtection
from authapi.web.middleware.own_paths import OwnPaths, paths_of_app
from authapi.web.problems import error_response

_NO_CONTEXT: RequestContext | None = None  # with this type, because a gate replaces it
_RESPONSES = ("http.response.start", "websocket.http.response.start")


class GuestMiddleware:
    """Sends requests for `paths` through `own`, and all others to `app`, the application.

    The lifespan goes through `own`. `application` and `router` tell which paths only the
    application answers, and which of these have a gate.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        own: ASGIApp,
        paths: OwnPaths,
        runtime: Runtime,
        application: FastAPI,
        router: APIRouter,
    ) -> None:
        self.app = app
        self._own = own
        self._paths = paths
        self._runtime = runtime
        self._application, self._router = application, router
        self._routes = application.router.routes
        self._route_count = 0
        self._known = dict[str, bool]()
        self._find_known_paths()
        self.new_request_id = RequestIds()
        self._inspection = HeaderInspection(runtime.settings)
        self._trusted = trusted_networks(runtime.settings)
        self._server = UpgradeProtection()

    def with_known_paths(self) -> ASGIApp:
        """Returns this layer with a shorter way for the paths that only the application has."""
        # This runs in every request of the application. A function costs less than an object with
        # `__call__`, its variables less than attributes, and a visit without a reference to the
        # scope or to `send` less than a cycle, which the garbage collector would have to find.
        app, application, routes = self.app, self._application, self._routes
        paths, server = self._known, self._server

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            is_gated = paths.get(scope.get("path", ""))
            if (
                is_gated is None
                or scope["type"] != "http"
                or len(routes) != self._route_count
                or application.dependency_overrides
                or scope.get("root_path")
            ):
                await self(scope, receive, send)
                return
            visit = Visit()
            visit.guest, visit.context = self, _NO_CONTEXT
            visit.headers, visit.peer = scope["headers"], scope.get("client")
            for name, _ in visit.headers:
                if name == b"upgrade":
                    send = server.protect(scope, send)
                    break
            else:
                if scope["method"] == "CONNECT" or not server.knows_server:
                    send = server.protect(scope, send)
            if is_gated:
                send = _with_headers_of_gates(visit, send)
            scope[SCOPE_KEY] = visit
            token = set_client(visit)
            try:
                await app(scope, receive, send)
            finally:
                reset_client(token)
            if not is_gated and visit.context is not None and visit.context.is_gated:
                paths.clear()  # a route has got a gate in a way that is not noticed

        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket") or self._paths.owns(scope):
            await self._own(scope, receive, send)
            return
        if len(self._routes) != self._route_count:
            self._find_known_paths()
        visit = Visit() if kind == "http" else VisitByWebSocket()
        visit.guest, visit.context = self, None
        visit.headers, visit.peer = scope["headers"], scope.get("client")
        scope[SCOPE_KEY] = visit
        with on_behalf_of(visit):
            if isinstance(visit, VisitByWebSocket):
                await self._visit_by_websocket(scope, receive, send, visit)
            else:
                send = _with_headers_of_gates(visit, self._server.protect(scope, send))
                await self.app(scope, receive, send)

    def _find_known_paths(self) -> None:
        self._route_count = len(self._routes)
        self._known.clear()
        self._known.update(paths_of_app(self._application, self._router))

    async def _visit_by_websocket(
        self, scope: Scope, receive: Receive, send: Send, visit: VisitByWebSocket
    ) -> None:
        visit.socket = socket = OpenSocket(send)
        visit.is_accepted = False
        try:
            await self.app(scope, receive, _noting_acceptance(visit, socket.send))
        except Exception as error:
            if not socket.is_caused_by_end(error):
                raise

    def create_context(self, scope: Scope, request_id: str) -> RequestContext:
        """Returns the context of a request for a route of the application."""
        context = RequestContext(self._runtime, request_id)
        context.check_headers = self._inspection.check_for_gate
        if scope.get("fastapi.telemetry") is not None:
            context.span = trace.get_current_span()
        return context

    def read_client(
        self, headers: Iterable[tuple[bytes, bytes]], peer: Peer | None, *, request_id: str
    ) -> Client:
        """Returns the client of a request."""
        return read_client(
            headers,
            peer,
            trusted=self._trusted,
            request_id=request_id,
            on_malformed=log_malformed_address,
        )


def _with_headers_of_gates(visit: Visit, send: Send) -> Send:
    """Returns a `send` that adds headers to the response if a gate has looked for the caller."""

    def send_with_headers(message: Message) -> Awaitable[None]:
        # Returns the awaitable of the server: a coroutine here would cost every message.
        context = visit.context
        if context is not None and context.is_gated and message["type"] in _RESPONSES:
            headers = with_headers_of_gate(
                message.get("headers", ()),
                is_private=context.is_private,
                discards=context.discards,
            )
            message = {**message, "headers": headers}
        return send(message)

    return send_with_headers


def _noting_acceptance(visit: VisitByWebSocket, send: Send) -> Send:
    """Returns a `send` for a WebSocket, which also notes that its handshake is accepted."""
    send_with_headers = _with_headers_of_gates(visit, send)

    def send_and_note(message: Message) -> Awaitable[None]:
        if message["type"] == "websocket.accept":
            visit.is_accepted = True
            if visit.context is not None:
                visit.context.is_accepted = True
        return send_with_headers(message)

    return send_and_note


class OwnRoutes:
    """The application, for requests that authapi answers.

    It answers 404 for the paths that `paths` lists as missing. With `replaces_cors`, only the CORS
    middleware of authapi decides, and headers of one inside the application are removed.
    """

    def __init__(self, app: ASGIApp, *, paths: OwnPaths, replaces_cors: bool) -> None:
        self.app = app
        self._paths = paths
        self._replaces_cors = replaces_cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._paths.is_missing(get_route_path(scope)):
                await error_response(NotFound(), scope)(scope, receive, send)
                return
            if self._replaces_cors:
                send = without_cors_headers(send)
        await self.app(scope, receive, send)
