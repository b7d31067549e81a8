"""The routes of authapi itself: how they read a body, and that none is open by mistake.

`OwnRoutes` refuses a body that announces too much, whether its route reads one or not; what an
importing application takes is its own affair (`FastAPI(max_body_size=...)`). `AuthAPIRoute` reads
bodies of bounded length, in bounded time, of the right content type, and JSON with one meaning
only. `ProtectedRoute` is the same and cannot be defined without a gate: what is
public has to say so by being on a router that is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast, get_type_hints
from urllib.parse import parse_qsl

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
from authapi.web.context import context_of
from authapi.web.errors import Refused
from authapi.web.media_types import FORM, JSON, require_media_type
from authapi.web.openapi import problems
from authapi.web.resolver import Gate, gates_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_MAX_LENGTH_DIGITS = 18
MAX_FIELDS = 50
"""Of one form."""
MAX_VALUE = 16384
"""Characters of one field of a form, whatever it is called."""


class StrictRequest(Request):
    """A request whose body is bounded and whose JSON is read by `strict_json`."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        settings = context_of(Request(scope)).runtime.settings
        bounded = _bounded(receive, settings.max_body_bytes, settings.body_timeout)
        super().__init__(scope, bounded)

    async def json(self) -> Any:
        """The value of the body. Raises Refused for what has no single meaning."""
        settings = context_of(self).runtime.settings
        try:
            return strict_json.loads(await self.body(), max_depth=settings.max_json_depth)
        except ValueError:
            # Neither the text nor the position is told: both come from the caller.
            raise Refused(MalformedJSON()) from None


class AuthAPIRoute(APIRoute):
    """A route that reads its body strictly."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # Also where none is read: `OwnRoutes` does not ask which route a body is for.
        options["responses"] = problems(413) | (options.get("responses") or {})
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def strict(request: Request) -> Response:
            if has_body(request):
                # A form or text/plain needs no preflight from a foreign page, JSON does (Fetch
                # standard, "CORS-safelisted request-header").
                require_media_type(request, JSON)
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


class ProtectedRoute(AuthAPIRoute):
    """A route that somebody must be authenticated for."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if not any(not gate.requirements.optional for gate in gates_of(self.dependant)):
            raise TypeError(f"{endpoint.__name__} at {path} lacks a gate: it would be open")

    def get_route_handler(self) -> Handler:
        handle, endpoint = super().get_route_handler(), self.endpoint
        gate = _only_gate(self.dependant)
        if gate is None or get_type_hints(endpoint).get("return") is not Response:
            return handle
        name, ask = gate

        async def lean(request: Request) -> Response:
            if request.app.dependency_overrides:
                return await handle(request)
            # There is nothing else to solve: what FastAPI does for it would cost more than all.
            response: Response = await endpoint(**{name: await ask(request), "request": request})
            return response

        return lean


class OwnRoutes(APIRouter):
    """Routes of ours as one group, which tells by the first segment of a path that it has none.

    Each request of an importing application passes by all of our routes on its way to its own.
    """

    def __init__(self, units: Iterable[APIRouter], *, max_body_bytes: int) -> None:
        super().__init__()
        self._max_body_bytes = max_body_bytes
        # Taken over as they are: a router inside a router would be searched twice for each request.
        self.routes.extend(route for unit in units for route in unit.routes)
        # A mount or a nested router has no path to index: this fails on the first of them.
        paths = [cast("Route", route).path for route in self.routes]
        self._first_segments = frozenset(path.split("/", 2)[1] for path in paths)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        segments = path.split("/", 2)
        if len(segments) < 2 or segments[1] not in self._first_segments:
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A body is refused on the length that it announces, before a byte of it is read.
        for name, value in scope["headers"]:
            # Python refuses to convert thousands of digits, so they are counted first.
            if name == b"content-length" and (
                not value.isdigit()
                or len(value) > _MAX_LENGTH_DIGITS
                or int(value) > self._max_body_bytes
            ):
                raise BodyTooLarge
        await super().handle(scope, receive, send)


def _only_gate(dependant: Dependant) -> tuple[str, Gate[object]] | None:
    """The parameter and gate of a handler that takes these and `request`, and nothing else."""
    if len(dependant.dependencies) != 1 or dependant.request_param_name != "request":
        return None
    inner = dependant.dependencies[0]
    takes_more = (
        dependant.path_params
        + dependant.query_params
        + dependant.header_params
        + dependant.cookie_params
        + dependant.body_params
    )
    if takes_more or inner.name is None or not isinstance(inner.call, Gate):
        return None
    return inner.name, inner.call


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form (application/x-www-form-urlencoded, UTF-8), each given once.

    Raises UnsupportedMediaType, BodyTooLarge, or MalformedRequest for what has no single meaning.
    """
    require_media_type(request, FORM)
    try:
        body = await StrictRequest(request.scope, request.receive).body()
        # As browsers read it (URL standard, section 5.1): nothing between two `&` is no field, and
        # a name without `=` has an empty value.
        written = [part for part in body.decode("ascii").split("&") if part not in {"", "="}]
        pairs = parse_qsl(
            "&".join(written), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
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
    """Whether a body was announced."""
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _bounded(receive: Receive, limit: int, seconds: float) -> Receive:
    read = 0
    # For all of it: one byte now and then would else hold the connection for ever.
    deadline: float | None = asyncio.get_running_loop().time() + seconds

    async def bounded() -> Message:
        nonlocal read, deadline
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise Refused(RequestTimeout()) from None
        if not message.get("more_body", False):
            deadline = None
        read += len(message.get("body", b""))
        if read > limit:
            raise Refused(BodyTooLarge())
        return message

    return bounded
