"""The middleware around every request: id, context, header checks, security headers, errors.

It is one pure ASGI class because each layer of middleware costs every request.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import unquote

from opentelemetry import trace
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authapi.crypto.ids import RequestIds
from authapi.domain.client import on_behalf_of, read_client
from authapi.errors import NotFound, Refusal
from authapi.late_imports import import_in_thread
from authapi.web.answers.open_socket import OpenSocket
from authapi.web.answers.private_responses import add_cookie_removal
from authapi.web.answers.route_ownership import allows_head
from authapi.web.answers.websocket_messages import POLICY_VIOLATION, can_send_response, has_route
from authapi.web.context import SCOPE_KEY, RequestContext, Runtime
from authapi.web.middleware.client import log_malformed_address, trusted_networks
from authapi.web.middleware.dispatch import Shortcut
from authapi.web.middleware.header_inspection import HeaderInspection
from authapi.web.middleware.public_documents import (
    is_public_path,
    public_preflight_response,
    with_cors_headers,
)
from authapi.web.middleware.security_headers import security_headers
from authapi.web.pages.addresses import CONSOLE
from authapi.web.pages.addresses import PREFIX as PAGES
from authapi.web.pages.site import LIBRARIES
from authapi.web.problems import (
    ProblemDocument,
    error_document,
    error_response,
    internal_error,
    problem_from_error,
    unhandled_error,
)
from authapi.web.server.limits import LIMITS_KEY, ReadingLimits, RefusedClient

_log = logging.getLogger("authapi")
_access = logging.getLogger("authapi.access")


class RequestMiddleware:
    """Wraps an application in which `runtime` is installed.

    It assigns a request id and a `RequestContext`, and refuses headers that are too large or
    ambiguous before other code reads them. It answers HEAD like GET without the body, unless GET
    has an effect, adds the security headers to every response, and turns unhandled exceptions into
    a 500 response.

    `own_paths` match the paths of authapi's own routes. `find_shortcut` returns what answers some
    requests in place of the application, given the layers inside of this one (`dispatch`).
    """

    def __init__(
        self,
        app: ASGIApp,
        runtime: Runtime,
        own_paths: Sequence[re.Pattern[str]] = (),
        find_shortcut: Callable[[ASGIApp], Shortcut | None] = lambda _: None,
    ) -> None:
        self.app = app
        self._shortcut = find_shortcut(app)
        self._runtime = runtime
        self._inspection = HeaderInspection(runtime.settings, own_paths)
        self._new_id = RequestIds()
        self._origins = frozenset(runtime.settings.allowed_origins)
        self._trusted = trusted_networks(runtime.settings)
        self._lacks_pages = True
        self._logs_access = runtime.settings.access_log
        self._metrics = runtime.metrics
        self._is_observed = self._logs_access or self._metrics is not None
        self._security_headers = security_headers(https=runtime.settings.cookie_secure)
        self._security_names = frozenset(name for name, _ in self._security_headers)
        self._reading_limits = ReadingLimits(
            max_header_bytes=runtime.settings.max_header_bytes,
            timeout=runtime.settings.body_timeout,
            answer=self._answer_refused,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            if (state := scope.get("state")) is not None:
                state[LIMITS_KEY] = self._reading_limits
            await self.app(scope, receive, send)
            return
        context = RequestContext(self._runtime, self._new_id(), own_path=scope["path"])
        if scope.get("fastapi.telemetry") is not None:
            context.span = trace.get_current_span()
        scope[SCOPE_KEY] = context
        client = partial(
            read_client,
            scope["headers"],
            scope.get("client"),
            trusted=self._trusted,
            request_id=context.request_id,
            on_malformed=log_malformed_address,
        )
        # It does not refer to the scope: timers of a server keep the context variables of a request
        # beyond its end.
        with on_behalf_of(client):
            if scope["type"] == "websocket":
                await self._websocket(scope, receive, send, context)
            else:
                await self._http(scope, receive, send, context)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        began = time.perf_counter()
        if self._lacks_pages and (PAGES in scope["path"] or CONSOLE in scope["path"]):
            # Here, because every later step may answer an error with a page.
            await import_in_thread(*LIBRARIES)
            self._lacks_pages = False
        is_head = scope["method"] == "HEAD"
        if is_head and allows_head(scope, self._runtime.settings.prefix):
            # A copy: the server reads its own scope to know that the response has no body.
            scope = {**scope, "method": "GET"}
        started = False
        request_id = (b"x-request-id", context.request_id.encode())
        refusal, has_body = self._inspection.inspect(scope)
        body = _Body(receive) if has_body else None

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._is_observed:
                    self._observe(scope, context, message["status"], began)
                headers = self._with_own_headers(message.get("headers", ()), request_id)
                if context.discards:
                    headers = add_cookie_removal(headers, context.discards)
                if body is not None and body.is_unread and message["status"] >= 400:
                    _add_connection_close(headers, scope)
                message["headers"] = headers
            elif is_head and message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        response = public_preflight_response(scope) if scope["method"] == "OPTIONS" else None
        try:
            if refusal is not None:
                response = error_response(refusal, scope)
            elif response is None:
                short = None
                if self._shortcut is not None and not has_body:
                    short = self._shortcut(scope)
                await (short or self.app)(scope, body or receive, send_with_headers)
                return
        except ClientDisconnect:
            return  # no client reads a response, and the disconnect is not an error
        except Exception as error:
            if started or not self._runtime.is_started:
                raise  # without the lifespan, the developer sees the sentence that says so
            response = unhandled_error(error, scope)
        self._add_cors_headers(response, scope)
        await response(scope, receive, send_with_headers)

    def _add_cors_headers(self, response: Response, scope: Scope) -> None:
        # The CORS middleware is inside this one, so it does not see responses created here.
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        if len(origins) == 1 and origins[0] in self._origins:
            response.headers["access-control-allow-origin"] = origins[0]
            response.headers["access-control-allow-credentials"] = "true"
            response.headers["access-control-expose-headers"] = "X-Request-ID"

    async def _websocket(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        started = False
        request_id = (b"x-request-id", context.request_id.encode())
        socket = context.socket = OpenSocket(send)

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "websocket.accept":
                context.is_accepted = True
            elif message["type"] == "websocket.http.response.start":
                started = True
                message["headers"] = self._with_own_headers(message.get("headers", ()), request_id)
            elif message["type"] == "websocket.close" and self._has_no_route(scope, context):
                await self._refuse(problem_from_error(NotFound(), context), scope, receive, send)
                return
            await socket.send(message)

        refusal = self._inspection.inspect(scope)[0]
        try:
            if refusal is None:
                await self.app(scope, receive, send_with_headers)
                return
            document = problem_from_error(refusal, context)
        except Exception as error:
            if socket.is_caused_by_end(error):
                return
            if started or not can_send_response(scope, is_accepted=context.is_accepted):
                raise
            _log.exception("unhandled error", extra={"request_id": context.request_id})
            document = internal_error(context.request_id)
        await self._refuse(document, scope, receive, send)

    async def _refuse(
        self, document: ProblemDocument, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Refuses a WebSocket whose handshake is not accepted yet."""
        if not can_send_response(scope, is_accepted=False):
            # The server answers 403, and sends neither code nor reason.
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "headers"})
            return
        request_id = (b"x-request-id", scope[SCOPE_KEY].request_id.encode())
        document.raw_headers = self._with_own_headers(document.raw_headers, request_id)
        await document(scope, receive, send)

    def _has_no_route(self, scope: Scope, context: RequestContext) -> bool:
        # Starlette closes a WebSocket without a route with the same message as an application that
        # refuses one.
        return can_send_response(scope, is_accepted=context.is_accepted) and not has_route(scope)

    def _observe(self, scope: Scope, context: RequestContext, status: int, began: float) -> None:
        seconds = time.perf_counter() - began
        # The pattern of the route, since the path may contain personal data or secrets.
        route = getattr(scope.get("route"), "path", None)
        if self._metrics is not None:
            self._metrics.record_request(scope["method"], route, status, seconds)
        if self._logs_access:
            _log_access(scope["method"], route, context, status, seconds)

    def _answer_refused(self, refusal: Refusal, sender: RefusedClient) -> Response:
        """Returns the response to a request that `HTTPProtocol` refuses before the application."""
        context = RequestContext(runtime=self._runtime, request_id=self._new_id())
        path = unquote(sender.target.partition(b"?")[0].decode("latin-1"))
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": (),
            "client": (sender.ip, 0) if sender.ip else None,
            SCOPE_KEY: context,
        }
        client = partial(
            read_client,
            (),
            scope["client"],
            trusted=(),
            request_id=context.request_id,
            on_malformed=log_malformed_address,
        )
        with on_behalf_of(client):
            response = error_document(refusal, scope)
        request_id = (b"x-request-id", context.request_id.encode())
        response.raw_headers = self._with_own_headers(response.raw_headers, request_id)
        prefix = self._runtime.settings.prefix
        if is_public_path(path, prefix) and "well_known" in self._runtime.units:
            response.raw_headers = with_cors_headers(response.raw_headers)
        return response

    def _with_own_headers(
        self, headers: Sequence[tuple[bytes, bytes]], request_id: tuple[bytes, bytes]
    ) -> list[tuple[bytes, bytes]]:
        present = set()
        for name, value in headers:
            lower = name.lower()
            present.add(lower)
            if lower == b"content-type" and value.startswith(b"text/html"):
                # Pages of the application load resources; pages of authapi set their own policy.
                present.add(b"content-security-policy")
        present.discard(b"vary")
        if present.isdisjoint(self._security_names):
            return [*headers, request_id, *self._security_headers]
        missing = [pair for pair in self._security_headers if pair[0] not in present]
        return [*headers, request_id, *missing]


class _Body:
    """A `receive` that records whether the application has read the whole body."""

    __slots__ = ("_receive", "is_unread")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_unread = True
        """Whether a part of the body may not have been read."""

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.is_unread = False
        return message


def _add_connection_close(headers: list[tuple[bytes, bytes]], scope: Scope) -> None:
    # Closing costs less than reading the rest of the body. HTTP/2 has no `Connection` header.
    is_present = any(name.lower() == b"connection" for name, _ in headers)
    if not is_present and scope.get("http_version", "1.1").startswith("1"):
        headers.append((b"connection", b"close"))


def _log_access(
    method: str, route: str | None, context: RequestContext, status: int, seconds: float
) -> None:
    identity = context.identity
    _access.info(
        "request",
        extra={
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
            "request_id": context.request_id,
            "user_id": str(identity.user.id) if identity else None,
            "strategy": identity.strategy if identity else None,
        },
    )
