"""Router and route classes of authapi: limits for request bodies, and mandatory gates.

`AuthAPIRouter` refuses a request whose `Content-Length` exceeds the limit, also for routes that
read no body. An importing application limits its own routes (`FastAPI(max_body_size=...)`).
`AuthAPIRoute` limits the length of a body and the time to read it, checks its content type, and
refuses ambiguous JSON. `ProtectedRoute` also requires a gate, so a route cannot become public by
mistake: public routes are defined on a router with another route class.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from copy import copy
from typing import Any, cast, get_type_hints
from urllib.parse import parse_qsl, urlsplit

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authapi.crypto import strict_json
from authapi.errors import (
    BodyTooLarge,
    ConfigurationError,
    MalformedJSON,
    MalformedRequest,
    RequestTimeout,
)
from authapi.web.answers.descriptions import problems
from authapi.web.challenges import RESOURCE_METADATA
from authapi.web.context import context_of, is_for_own_path
from authapi.web.media_types import FORM, JSON, require_media_type
from authapi.web.middleware.dispatch import Dispatcher, Shortcut
from authapi.web.middleware.gated_routes import gates_with_request
from authapi.web.problems import RefusalHTTPException, answer, own_handlers
from authapi.web.requirements import gates_of
from authapi.web.schemas.fields import reserved_addresses_allowed

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

SERVER_METADATA = "/.well-known/oauth-authorization-server"
"""The path of the metadata of an authorization server without a path (RFC 8414, section 3)."""

RELATED_ORIGINS = "/.well-known/webauthn"
"""The path of the origins that may use passkeys (WebAuthn Level 3, section 5.11)."""

CHANGE_PASSWORD = "/.well-known/change-password"
"""The path that leads to the page for a new password (W3C, A Well-Known URL for Changing
Passwords)."""

PASSKEY_ENDPOINTS = "/.well-known/passkey-endpoints"
"""The path of the pages where people add and manage passkeys (W3C, Passkey Endpoints)."""

_OF_HOST = (RELATED_ORIGINS, CHANGE_PASSWORD, PASSKEY_ENDPOINTS)
"""What clients ask the host for, whatever the prefix and the path of the public URL are."""

_HOST_DOCUMENTS = "/.well-known/"
_MAX_PREFIX_LENGTH = 100
_SEGMENTS = re.compile(r"(/[A-Za-z0-9._~-]+)+")
"""Segments of characters that no client encodes (RFC 3986, section 2.3)."""
_MAX_LENGTH_DIGITS = 18
MAX_FIELDS = 50
"""Fields of a form."""
MAX_VALUE = 16384
"""Characters of the value of a form field."""


class StrictRequest(Request):
    """A request with a limited body, which parses JSON with `strict_json`.

    Reading the body raises RefusalHTTPException if it is too large or arrives too slowly.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        settings = context_of(Request(scope)).runtime.settings
        limited = _with_limits(receive, settings.max_body_bytes, settings.body_timeout)
        super().__init__(scope, limited)

    async def json(self) -> Any:
        """Returns the parsed body. Raises RefusalHTTPException for malformed or ambiguous JSON."""
        settings = context_of(self).runtime.settings
        try:
            return strict_json.loads(await self.body(), max_depth=settings.max_json_depth)
        except ValueError:
            # Neither text nor position of the error: both are input of the client.
            raise RefusalHTTPException(MalformedJSON()) from None


class AuthAPIRoute(APIRoute):
    """A route that limits and checks the request body.

    A request raises UnsupportedMediaType if its body is not JSON in UTF-8.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # Also for routes without a body: `AuthAPIRouter` checks `Content-Length` before routing.
        options["responses"] = problems(413) | (options.get("responses") or {})
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_strictly(request: Request) -> Response:
            if has_body(request):
                # A page of a foreign origin can send a form or text/plain without a preflight, but
                # not JSON (Fetch standard, "CORS-safelisted request-header").
                require_media_type(request, JSON)
            strict = StrictRequest(request.scope, request.receive)
            services = context_of(request).runtime.services_if_any
            if services is not None and services.settings.allow_reserved_addresses:
                with reserved_addresses_allowed():
                    return await handle(strict)
            return await handle(strict)

        return handle_strictly


class ProtectedRoute(AuthAPIRoute):
    """A route that requires authentication.

    Raises TypeError if the route has no gate, or optional gates only.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if not any(not gate.requirements.optional for gate in gates_of(self.dependant)):
            raise TypeError(f"{endpoint.__name__} at {path} has no gate: it would be public")

        handle = self._direct_handler()
        self.direct = None if handle is None else _responding(handle)

    def get_route_handler(self) -> Handler:
        handle, direct = super().get_route_handler(), self._direct_handler()
        if direct is None:
            return handle

        async def handle_directly(request: Request) -> Response:
            if request.app.dependency_overrides:
                return await handle(request)
            return await direct(request)

        return handle_directly

    def _direct_handler(self) -> Handler | None:
        """Returns a handler for a route that needs a gate and the request, and makes its response.

        FastAPI's resolution of its dependencies would cost more than the handler.
        """
        endpoint, gates = self.endpoint, gates_with_request(self.dependant)
        if len(gates) != 1 or get_type_hints(endpoint).get("return") is not Response:
            return None
        gate, (name, *_) = gates[0]

        async def handle(request: Request) -> Any:
            return await endpoint(**{name: await gate(request), "request": request})

        return handle


class AuthAPIRouter(APIRouter):
    """The routes of authapi as one router, which takes a request only if it is for authapi.

    It is dispatched by path before the routes of the application are searched (`include_in`). The
    errors of its routes become responses here: the exception handlers of the application and its
    `ServerErrorMiddleware` do not see them.

    The routes are below `prefix`, but for the metadata of RFC 8414 and RFC 9728, and what password
    managers and browsers ask the host for. `public_url` is that of the application. Its path is a
    part of the path of the metadata on the host, and a proxy removes it or leaves it.
    """

    def __init__(
        self,
        units: Iterable[APIRouter],
        *,
        max_body_bytes: int,
        prefix: str = "",
        public_url: str = "",
    ) -> None:
        super().__init__()
        self._max_body_bytes = max_body_bytes
        self._start = f"{prefix}/"
        public_path = urlsplit(public_url).path
        has_aliases = _SEGMENTS.fullmatch(public_path) is not None
        # Copied, since each request would search a router inside a router twice.
        routes = [route for unit in units for route in unit.routes]
        # Units have routes only: a mount or a nested router fails here.
        paths = [cast("Route", route).path for route in routes]
        self._first_segments = frozenset(path.split("/", 2)[1] for path in paths)
        for route, path in zip(routes, paths, strict=True):
            self.routes.append(_placed(route, _path_in_application(path, prefix)))
            if has_aliases and path in (SERVER_METADATA, RESOURCE_METADATA):
                alias = _placed(route, _path_in_application(path, prefix, public_path))
                alias.include_in_schema = False
                self.routes.append(alias)
        self._handlers = (own_handlers(), dict[int, object]())

    def include_in(self, app: FastAPI) -> None:
        """Adds the routes to `app`. They answer requests for paths of authapi only."""
        app.include_router(self)
        self._included = included = app.router.routes[-1]
        matches, no_match = included.matches, (Match.NONE, dict[str, Any]())

        def matches_own_path(scope: Scope) -> tuple[Match, Scope]:
            return matches(scope) if is_for_own_path(scope) else no_match

        # FastAPI prepares its search before it asks this router, which costs more than the search.
        included.matches = matches_own_path  # type: ignore[method-assign]  # FastAPI has no hook
        self._dispatcher = Dispatcher(app, included, app.router.middleware_stack)
        app.router.middleware_stack = self._dispatcher  # type: ignore[assignment]  # awaited at once

    def move_last_in(self, app: FastAPI) -> None:
        """Moves the routes behind those of `app`, which then need not ask them.

        It is for an application whose requests are dispatched by path, so that the order of the
        routes decides nothing.
        """
        app.router.routes.remove(self._included)
        app.router.routes.append(self._included)

    def shortcut(self, stack: ASGIApp) -> Shortcut | None:
        """Returns the shortcut past `stack`, the layers around the routes (`Dispatcher`)."""
        return self._dispatcher.shortcut(stack)

    def remove(self, routes: Collection[int]) -> None:
        """Removes the routes with these `id`s, which the application replaces."""
        self.routes[:] = [route for route in self.routes if id(route) not in routes]
        self._mark_routes_changed()
        self._dispatcher.forget_routes()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path: str = get_route_path(scope) if scope.get("root_path") else scope["path"]
        if path.startswith(_HOST_DOCUMENTS):
            segments = path.split("/", 2)
        elif path.startswith(self._start):
            segments = path[len(self._start) - 1 :].split("/", 2)
        else:
            return Match.NONE, {}
        if len(segments) < 2 or segments[1] not in self._first_segments:
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to its route, and answers its errors."""
        await self.answer(super().handle, scope, receive, send)

    async def answer(self, handle: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to `handle`, and answers its errors.

        BodyTooLarge if `Content-Length` is above the limit or malformed, before the body is read.
        """
        is_started = False

        def send_and_note(message: Message) -> Awaitable[None]:
            nonlocal is_started
            is_started = True
            return send(message)

        scope["starlette.exception_handlers"] = self._handlers
        try:
            self._check_length(scope)
            await handle(scope, receive, send_and_note)
        except ClientDisconnect:
            return  # no client reads a response, and the disconnect is not an error
        except Exception as error:
            if is_started or not context_of(Request(scope)).runtime.is_started:
                raise  # without the lifespan, the developer sees the sentence that says so
            response = await answer(error, Request(scope, receive))
        else:
            return
        if response is not None:
            await response(scope, receive, send)

    def _check_length(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            # int() raises ValueError for thousands of digits.
            if name == b"content-length" and (
                not value.isdigit()
                or len(value) > _MAX_LENGTH_DIGITS
                or int(value) > self._max_body_bytes
            ):
                raise BodyTooLarge


def _responding(handle: Handler) -> ASGIApp:
    """Returns an ASGI application that sends the response of a handler."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await (await handle(Request(scope, receive, send)))(scope, receive, send)

    return respond


def check_prefix(prefix: str, base_url: str) -> str:
    """Returns the path of authapi in an application at `base_url`, or an empty path.

    Raises ConfigurationError if it is not a path such as `/api/v1/auth`, or if `base_url` ends with
    it.
    """
    if not prefix:
        return ""
    is_path = _SEGMENTS.fullmatch(prefix) is not None
    if not is_path or not {".", ".."}.isdisjoint(prefix.split("/")):
        raise ConfigurationError(
            f"the prefix {prefix!r} is no path such as /api/v1/auth: it begins with a slash, does"
            " not end with one, and has letters, digits and -._~ between them"
        )
    if len(prefix) > _MAX_PREFIX_LENGTH:
        raise ConfigurationError(f"the prefix has more than {_MAX_PREFIX_LENGTH} characters")
    if urlsplit(base_url).path.endswith(prefix):
        raise ConfigurationError(
            f"AUTHAPI_PUBLIC_URL ends with the prefix {prefix!r}, so links would have it twice:"
            " set it to the URL of the application"
        )
    return prefix


def _path_in_application(path: str, prefix: str, public_path: str = "") -> str:
    """Returns the path of a route of authapi in an application.

    The path of the issuer follows that of its metadata (RFC 8414, section 3.1). The protected
    resource is the application (RFC 9728, section 3.1).
    """
    if path == SERVER_METADATA:
        return path + public_path + prefix
    if path in _OF_HOST:
        return path
    return path + public_path if path == RESOURCE_METADATA else prefix + path


def _placed(route: BaseRoute, path: str) -> Route:
    """Returns `route` at `path`. It is a copy if it has another path."""
    placed = cast("Route", route)
    if placed.path == path:
        return placed
    placed = copy(placed)
    placed.path = path
    placed.path_regex, placed.path_format, placed.param_convertors = compile_path(path)
    return placed


async def read_form(request: Request, *, max_fields: int = MAX_FIELDS) -> dict[str, str]:
    """Returns the fields of a form (application/x-www-form-urlencoded, UTF-8).

    Raises UnsupportedMediaType for another content type, MalformedRequest if the form is malformed,
    a field occurs twice (python-multipart accepts that), there are over `max_fields` or a value is
    longer than `MAX_VALUE`, and RefusalHTTPException for a body that is too large or too slow.
    """
    require_media_type(request, FORM)
    try:
        body = await StrictRequest(request.scope, request.receive).body()
        # URL standard, section 5.1: empty parts are skipped, and a name without `=` has an empty
        # value.
        parts = [part for part in body.decode("ascii").split("&") if part not in {"", "="}]
        pairs = parse_qsl(
            "&".join(parts), keep_blank_values=True, errors="strict", max_num_fields=max_fields
        )
    except (ClientDisconnect, ValueError):
        raise MalformedRequest from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise MalformedRequest
    if any("\0" in value or len(value) > MAX_VALUE for value in fields.values()):
        raise MalformedRequest
    return fields


def has_body(request: Request) -> bool:
    """Whether the headers announce a body."""
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _with_limits(receive: Receive, max_bytes: int, seconds: float) -> Receive:
    received = 0
    # One deadline for the whole body. With a timeout for each part, a client that sends single
    # bytes could keep the connection open.
    deadline: float | None = asyncio.get_running_loop().time() + seconds

    async def receive_with_limits() -> Message:
        nonlocal received, deadline
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise RefusalHTTPException(RequestTimeout()) from None
        if not message.get("more_body", False):
            deadline = None
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise RefusalHTTPException(BodyTooLarge())
        return message

    return receive_with_limits
