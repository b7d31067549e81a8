"""Router and route classes of authapi: limits for request bodies, and mandatory gates.

`AuthAPIRouter` refuses a request whose `Content-Length` exceeds the limit, also for routes that
read no body. An importing application limits its own routes (`FastAPI(max_body_size=...)`).
`AuthAPIRoute` limits the length of a body and the time to read it, checks its content type, and
refuses ambiguous JSON. `ProtectedRoute` also requires a gate, so a route cannot become public by
mistake: public routes are defined on a router with another route class.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Any, cast, get_type_hints
from urllib.parse import parse_qsl

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from authapi.crypto import strict_json
from authapi.errors import (
    BodyTooLarge,
    MalformedJSON,
    MalformedRequest,
    RequestTimeout,
)
from authapi.web.context import SCOPE_KEY, RequestContext, context_of
from authapi.web.media_types import FORM, JSON, require_media_type
from authapi.web.openapi import problems
from authapi.web.problems import RefusalHTTPException, answer, own_handlers
from authapi.web.requirements import Gate, gates_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

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
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


class ProtectedRoute(AuthAPIRoute):
    """A route that requires authentication.

    Raises TypeError if the route has no gate, or optional gates only.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if not any(not gate.requirements.optional for gate in gates_of(self.dependant)):
            raise TypeError(f"{endpoint.__name__} at {path} has no gate: it would be public")

    def get_route_handler(self) -> Handler:
        handle, endpoint = super().get_route_handler(), self.endpoint
        single_gate = _single_gate(self.dependant)
        if single_gate is None or get_type_hints(endpoint).get("return") is not Response:
            return handle
        name, gate = single_gate

        async def handle_directly(request: Request) -> Response:
            if request.app.dependency_overrides:
                return await handle(request)
            # No other dependency exists. FastAPI's resolution would cost more than the handler.
            response: Response = await endpoint(**{name: await gate(request), "request": request})
            return response

        return handle_directly


class AuthAPIRouter(APIRouter):
    """The routes of authapi as one router, which takes a request only if it is for authapi.

    Every request to an importing application passes this router, so a mismatch must be cheap. The
    errors of its routes become responses here: the exception handlers of the application and its
    `ServerErrorMiddleware` do not see them.
    """

    def __init__(self, units: Iterable[APIRouter], *, max_body_bytes: int) -> None:
        super().__init__()
        self._max_body_bytes = max_body_bytes
        # Copied, since each request would search a router inside a router twice.
        self.routes.extend(route for unit in units for route in unit.routes)
        # Units have routes only: a mount or a nested router fails here.
        paths = [cast("Route", route).path for route in self.routes]
        self._first_segments = frozenset(path.split("/", 2)[1] for path in paths)
        self._handlers = (own_handlers(), dict[int, object]())

    def include_in(self, app: FastAPI) -> None:
        """Adds the routes to `app`. They match requests for paths of authapi only."""
        app.include_router(self)
        included = app.router.routes[-1]
        matches = included.matches

        def matches_own_path(scope: Scope) -> tuple[Match, Scope]:
            context = scope.get(SCOPE_KEY)
            # Another path than that of the request: Starlette asks whether to redirect to a path
            # with or without a slash.
            if isinstance(context, RequestContext) and context.own_path == scope["path"]:
                return matches(scope)
            return Match.NONE, {}

        # FastAPI prepares its search before it asks this router, which costs more than the search.
        included.matches = matches_own_path  # type: ignore[method-assign]  # FastAPI has no hook

    def remove(self, routes: Collection[int]) -> None:
        """Removes the routes with these `id`s, which the application replaces."""
        self.routes[:] = [route for route in self.routes if id(route) not in routes]
        self._mark_routes_changed()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        segments = path.split("/", 2)
        if len(segments) < 2 or segments[1] not in self._first_segments:
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to its route, and answers its errors.

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
            await super().handle(scope, receive, send_and_note)
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


def _single_gate(dependant: Dependant) -> tuple[str, Gate[object]] | None:
    """Returns parameter name and gate of a handler with no parameters but these and `request`."""
    if len(dependant.dependencies) != 1 or dependant.request_param_name != "request":
        return None
    dependency = dependant.dependencies[0]
    other_parameters = (
        dependant.path_params
        + dependant.query_params
        + dependant.header_params
        + dependant.cookie_params
        + dependant.body_params
    )
    if other_parameters or dependency.name is None or not isinstance(dependency.call, Gate):
        return None
    return dependency.name, dependency.call


async def read_form(request: Request) -> dict[str, str]:
    """Returns the fields of a form (application/x-www-form-urlencoded, UTF-8).

    Raises UnsupportedMediaType for another content type, MalformedRequest if the form is malformed,
    a field occurs twice or a limit on fields is exceeded, and RefusalHTTPException if the body is
    too large or arrives too slowly.
    """
    require_media_type(request, FORM)
    try:
        body = await StrictRequest(request.scope, request.receive).body()
        # URL standard, section 5.1: empty parts are skipped, and a name without `=` has an empty
        # value.
        parts = [part for part in body.decode("ascii").split("&") if part not in {"", "="}]
        pairs = parse_qsl(
            "&".join(parts), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
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
