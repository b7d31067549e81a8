"""The edge: one pure ASGI middleware around everything, errors included.

It gives each request an id and a context, refuses headers that are too long or ambiguous before any
of our code reads them, answers HEAD by what GET says, puts the security headers on every response,
and turns what nobody foresaw into a 500 that tells nothing. It is one class because each layer of
ASGI costs every request.
"""

import ipaddress
import logging
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import unquote

from opentelemetry import trace
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authapi.crypto.ids import RequestIds
from authapi.errors import (
    DuplicateHeader,
    HeadersTooLarge,
    HTTPSRequired,
    MalformedRequest,
    NotFound,
    Refusal,
)
from authapi.identity import on_behalf_of
from authapi.web.answers.sockets import POLICY_VIOLATION, can_answer, has_route
from authapi.web.context import SCOPE_KEY, RequestContext, Runtime
from authapi.web.edge.client import came_in_the_clear, client_of
from authapi.web.edge.cookies import discarding
from authapi.web.edge.public import PREFIX, preflight_of, readable
from authapi.web.edge.upgrades import is_read_by_us
from authapi.web.errors import (
    ProblemDocument,
    answer,
    document_for,
    internal_error,
    problem_for,
)
from authapi.web.server.limits import LIMITS_KEY, ReadingLimits, Sender

_log = logging.getLogger("authapi")
_access = logging.getLogger("authapi.access")

CSP = (
    "default-src 'none'; base-uri 'none'; object-src 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
"""An API answer is never a document: nothing in it may run, load or be framed."""

VARY = "Authorization, Cookie, Origin"

_TELLING = frozenset(
    {
        *(b"authorization", b"cookie", b"host", b"origin"),
        *(b"content-length", b"content-type", b"transfer-encoding", b"upgrade"),
    }
)
"""What the edge looks at."""
_REPEATED = frozenset({b"cookie", b"upgrade"})
"""What may come in several header lines (RFC 9113, section 8.2.3; RFC 9110, section 7.8)."""


class EdgeMiddleware:
    """Wraps the application; `runtime` is the installation that it belongs to.

    `own_paths` match the paths of our own routes.
    """

    def __init__(
        self, app: ASGIApp, runtime: Runtime, own_paths: Sequence[re.Pattern[str]] = ()
    ) -> None:
        self.app = app
        self._runtime = runtime
        self._own_paths = own_paths
        self._new_id = RequestIds()
        self._origins = frozenset(runtime.settings.allowed_origins)
        self._max_all = runtime.settings.max_header_bytes
        self._max_one = runtime.settings.max_credential_bytes
        self._https = runtime.settings.cookie_secure
        self._trusted = tuple(
            ipaddress.ip_network(text) for text in runtime.settings.trusted_proxies
        )
        self._logs_access = runtime.settings.access_log
        self._metrics = runtime.metrics
        self._watched = self._logs_access or self._metrics is not None
        self._headers = _security_headers(https=self._https)
        self._names = frozenset(name for name, _ in self._headers)
        self._reading_limits = ReadingLimits(
            max_header_bytes=self._max_all,
            timeout=runtime.settings.body_timeout,
            answer=self._answer_unread,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            if (state := scope.get("state")) is not None:
                state[LIMITS_KEY] = self._reading_limits
            await self.app(scope, receive, send)
            return
        context = RequestContext(runtime=self._runtime, request_id=self._new_id())
        if scope.get("fastapi.telemetry") is not None:
            context.span = trace.get_current_span()
        scope[SCOPE_KEY] = context
        with on_behalf_of(partial(client_of, scope, self._trusted, context.request_id)):
            if scope["type"] == "websocket":
                await self._websocket(scope, receive, send, context)
            else:
                await self._http(scope, receive, send, context)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        began = time.perf_counter()
        is_head = scope["method"] == "HEAD"
        if is_head:
            # In a copy: the server looks into its own to know that no body follows.
            scope = {**scope, "method": "GET"}
        started = False
        request_id = (b"x-request-id", context.request_id.encode())
        refusal, has_body = self._inspect(scope)
        body = _Body(receive) if has_body else None

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._watched:
                    self._watch(scope, context, message["status"], began)
                headers = self._complete(message.get("headers", ()), request_id)
                if context.discards:
                    headers = discarding(headers, context.discards)
                if body is not None and body.is_unread and message["status"] >= 400:
                    _close_after(headers, scope)
                message["headers"] = headers
            elif is_head and message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        response = preflight_of(scope) if scope["method"] == "OPTIONS" else None
        try:
            if refusal is not None:
                response = answer(refusal, scope)
            elif response is None:
                await self.app(scope, body or receive, send_with_headers)
                return
        except ClientDisconnect:
            return  # there is no one to answer, and nothing went wrong here
        except Exception as error:
            if started:
                raise
            _log.exception("unhandled error", extra={"request_id": context.request_id})
            response = answer(error, scope)
        self._let_read(response, scope)
        await response(scope, receive, send_with_headers)

    def _let_read(self, response: Response, scope: Scope) -> None:
        # The CORS middleware stands within us, and does not see what we answer ourselves.
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        if len(origins) == 1 and origins[0] in self._origins:
            response.headers["access-control-allow-origin"] = origins[0]
            response.headers["access-control-allow-credentials"] = "true"
            response.headers["access-control-expose-headers"] = "X-Request-ID"

    async def _websocket(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        answers = False
        request_id = (b"x-request-id", context.request_id.encode())

        async def send_with_headers(message: Message) -> None:
            nonlocal answers
            if message["type"] == "websocket.accept":
                context.is_accepted = True
            elif message["type"] == "websocket.http.response.start":
                answers = True
                message["headers"] = self._complete(message.get("headers", ()), request_id)
            elif message["type"] == "websocket.close" and self._has_no_route(scope, context):
                await self._refuse(problem_for(NotFound(), context), scope, receive, send)
                return
            await send(message)

        refusal = self._inspect(scope)[0]
        try:
            if refusal is None:
                await self.app(scope, receive, send_with_headers)
                return
            document = problem_for(refusal, context)
        except Exception:
            if answers or not can_answer(scope, is_accepted=context.is_accepted):
                raise
            _log.exception("unhandled error", extra={"request_id": context.request_id})
            document = internal_error(context.request_id)
        await self._refuse(document, scope, receive, send)

    async def _refuse(
        self, document: ProblemDocument, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Refuse a WebSocket that is not accepted."""
        if not can_answer(scope, is_accepted=False):
            # The server answers 403 for every code and reason.
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "headers"})
            return
        request_id = (b"x-request-id", scope[SCOPE_KEY].request_id.encode())
        document.raw_headers = self._complete(document.raw_headers, request_id)
        await document(scope, receive, send)

    def _has_no_route(self, scope: Scope, context: RequestContext) -> bool:
        # Starlette closes what it has no route for, as an application closes what it does not want.
        return can_answer(scope, is_accepted=context.is_accepted) and not has_route(scope)

    def _watch(self, scope: Scope, context: RequestContext, status: int, began: float) -> None:
        seconds = time.perf_counter() - began
        # The pattern, not the path: what a stranger put into a path is theirs.
        route = getattr(scope.get("route"), "path", None)
        if self._metrics is not None:
            self._metrics.request(scope["method"], route, status, seconds)
        if self._logs_access:
            _log_access(scope["method"], route, context, status, seconds)

    def _inspect(self, scope: Scope) -> tuple[Refusal | None, bool]:
        """Why the head of a request is refused, if it is; whether it announces a body."""
        total, seen = 0, dict[bytes, bytes]()
        for name, value in scope["headers"]:
            total += len(name) + len(value)
            if name in _TELLING:
                if len(value) > self._max_one:
                    return HeadersTooLarge(), True
                if name in seen and name not in _REPEATED:
                    # Which of two a proxy reads, and which we would, cannot be known.
                    return DuplicateHeader(), True
                if name == b"transfer-encoding" and value.lower() != b"chunked":
                    # RFC 9112, section 6.1: another coding may end the body elsewhere.
                    return MalformedRequest("Only chunked is a transfer coding here"), True
                seen[name] = value
        has_body = b"transfer-encoding" in seen or seen.get(b"content-length", b"0") != b"0"
        if total > self._max_all:
            return HeadersTooLarge(), has_body
        return self._refusal(scope, seen, has_body=has_body), has_body

    def _refusal(
        self, scope: Scope, seen: Mapping[bytes, bytes], *, has_body: bool
    ) -> Refusal | None:
        if b"host" not in seen and scope.get("http_version") == "1.1":
            return MalformedRequest("Host is missing")  # RFC 9112, section 3.2
        if self._https and came_in_the_clear(scope, self._trusted):
            return HTTPSRequired()
        raw_path = scope.get("raw_path")
        if raw_path and b"%" in raw_path and self._is_disguised(scope, raw_path):
            return NotFound()
        if has_body and b"upgrade" in seen and self._has_lost_body(scope):
            return MalformedRequest("A request with a body cannot ask for an upgrade here")
        return None

    def _has_lost_body(self, scope: Scope) -> bool:
        # Only on our routes: what those of the importing application do without it, they decide.
        if scope["type"] != "http" or is_read_by_us(scope):
            return False
        path = get_route_path(scope)
        return any(pattern.match(path) for pattern in self._own_paths)

    def _answer_unread(self, refusal: Refusal, sender: Sender) -> Response:
        """The answer to a request that the protocol does not read; no middleware sees it."""
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
        with on_behalf_of(partial(client_of, scope, (), context.request_id)):
            response = document_for(refusal, scope)
        request_id = (b"x-request-id", context.request_id.encode())
        response.raw_headers = self._complete(response.raw_headers, request_id)
        if path.startswith(PREFIX) and "well_known" in self._runtime.units:
            response.raw_headers = readable(response.raw_headers)
        return response

    def _is_disguised(self, scope: Scope, raw_path: bytes) -> bool:
        # The server decodes %2F before routes are matched, and a proxy that guards a prefix such as
        # /me/ need not. They are two different paths (RFC 3986, section 2.2), and ours have no such
        # slash; those of the importing application may.
        if b"%2f" not in raw_path.lower():
            return False
        path = get_route_path(scope)
        return any(pattern.match(path) for pattern in self._own_paths)

    def _complete(
        self, headers: Sequence[tuple[bytes, bytes]], request_id: tuple[bytes, bytes]
    ) -> list[tuple[bytes, bytes]]:
        present = set()
        for name, value in headers:
            lower = name.lower()
            present.add(lower)
            if lower == b"content-type" and value.startswith(b"text/html"):
                # A page knows best what it must load; ours bring a policy of their own.
                present.add(b"content-security-policy")
        present.discard(b"vary")
        if present.isdisjoint(self._names):
            return [*headers, request_id, *self._headers]
        ours = [pair for pair in self._headers if pair[0] not in present]
        return [*headers, request_id, *ours]


class _Body:
    """The body of a request on its way to the application."""

    __slots__ = ("_receive", "is_unread")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_unread = True
        """Whether there may be more of it."""

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.is_unread = False
        return message


def _close_after(headers: list[tuple[bytes, bytes]], scope: Scope) -> None:
    # The rest of the body is not worth reading. HTTP/2 has no such field, and needs none.
    is_said = any(name.lower() == b"connection" for name, _ in headers)
    if not is_said and scope.get("http_version", "1.1").startswith("1"):
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


def _security_headers(*, https: bool) -> list[tuple[bytes, bytes]]:
    headers = [
        # What says nothing about caching is not to be stored; resources that may be, say so.
        (b"cache-control", b"no-store"),
        (b"content-security-policy", CSP.encode()),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"no-referrer"),
        (b"vary", VARY.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if https:
        headers.append(
            (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
        )
    return headers
