"""A shorter way to the handlers of routes with gates.

FastAPI walks the tree of the dependencies of a route for each request, which takes longer than a
known caller takes to be recognised. For a route whose first dependencies are gates, a handler built
here asks the gates itself, and has FastAPI solve what is left. It runs in FastAPI's own application
of the route, so exceptions, exit stacks and the limit of the body stay as they are. If the route
reads a body, the gates refuse strangers before it, and FastAPI asks them again after it.

A route takes this way only if FastAPI alone has built its application, and only while nothing of it
is replaced: no `dependency_overrides`, no telemetry of FastAPI, the dependencies and the endpoint
of the start. Any other route and request takes the way of FastAPI (decision 0047).
"""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias

from fastapi import FastAPI, Response, routing
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import solve_dependencies
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.utils import is_body_allowed_for_status_code
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request

from authapi.web.context import context_of
from authapi.web.requirements import Gate
from authapi.web.resolver import resolve
from authapi.web.server.limits import discard_body

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

GateOf: TypeAlias = tuple[Gate[object], list[str]]
"""A gate, and the parameters of the endpoint that get its result."""
_REPLACED_BY_TRACERS = (
    *("get_request_handler", "request_response", "solve_dependencies"),
    *("run_endpoint_function", "serialize_response"),
)
"""The functions of FastAPI that a request passes. Tools for tracing replace them by their own,
which a shorter way would not call."""
_MODEL_OPTIONS = (
    *("include", "exclude", "by_alias"),
    *("exclude_unset", "exclude_defaults", "exclude_none"),
)
_NEEDS = (
    *("path_params", "query_params", "header_params", "cookie_params", "body_params"),
    *("request_param_name", "websocket_param_name", "http_connection_param_name"),
    *("response_param_name", "background_tasks_param_name", "security_scopes_param_name"),
)
"""The attributes of a `Dependant` that name what its function needs besides its dependencies."""
_VARIABLES = frozenset(
    {
        *("dependant", "body_field", "is_body_form", "form_limits", "embed_body_fields"),
        *("actual_strict_content_type", "dependency_overrides_provider", "is_coroutine"),
        *("is_sse_stream", "is_json_stream", "stream_item_field", "status_code"),
        *("response_class", "actual_response_class", "response_field"),
        *(f"response_model_{name}" for name in _MODEL_OPTIONS),
    }
)
"""The variables of FastAPI's handler. Another one may be an option that is not known here."""
_MAX_DISCARDED = 16 * 1024 * 1024
"""Bytes that the server reads for a client that sends its body before it reads a refusal."""
_FUNCTIONS = vars(routing)
_FASTAPI = Path(routing.__file__).parent
_NEEDS_OF_GATE = frozenset({"http_connection_param_name"})


def shorten_routes(app: FastAPI) -> int:
    """Gives the routes of `app` with gates a shorter way. Returns the number of those that have it.

    Call it when the routes are complete. A second call changes nothing. Routes of authapi keep
    FastAPI's way: `AuthAPIRoute` has handlers of its own.
    """
    replaced = map(_FUNCTIONS.get, _REPLACED_BY_TRACERS)
    if not all(map(_is_of_fastapi, replaced, _REPLACED_BY_TRACERS)):
        return 0
    routes = iter_route_contexts(app.routes)
    return sum(_shorten(each) for each in routes if not _is_ours(each.original_route))


def _is_ours(route: object) -> bool:
    return type(route).__module__.startswith("authapi.")


def _shorten(route: RouteContext) -> bool:
    for holder in _holders(route):
        ordinary = _variables(holder.app, "request_response.<locals>.app").get("f")
        variables = _variables(ordinary, "get_request_handler.<locals>.app")
        handler = _handler(ordinary, variables) if ordinary and variables else None
        if handler is not None:
            holder.app = routing.request_response(handler)
            return True
    return False


def _holders(route: RouteContext) -> Iterator[Any]:
    """Yields what may have FastAPI's application of a route as its attribute `app`.

    With `max_body_size`, it is inside of two layers of FastAPI.
    """
    # An included route has an application of its own, and FastAPI no public name for its holder.
    holder: Any = getattr(route, "_effective_route", None)
    for _ in range(3):
        if not hasattr(holder, "app"):
            return
        yield holder
        holder = holder.app
        if type(holder).__module__.partition(".")[0] not in ("fastapi", "starlette"):
            return


def _is_of_fastapi(function: object, name: str) -> bool:
    """Whether this is the function of FastAPI with this name, and not one that wraps it."""
    return (
        type(function) is FunctionType
        and Path(function.__code__.co_filename).is_relative_to(_FASTAPI)
        and function.__code__.co_qualname == name
    )


def _variables(function: object, name: str) -> dict[str, Any]:
    """Returns the variables that a function of FastAPI has captured; none for any other object."""
    if not isinstance(function, FunctionType) or not _is_of_fastapi(function, name):
        return {}
    cells = function.__closure__ or ()
    return {
        variable: cell.cell_contents
        for variable, cell in zip(function.__code__.co_freevars, cells, strict=True)
    }


def _handler(ordinary: Handler, variables: dict[str, Any]) -> Handler | None:
    """Returns a handler of requests that calls `ordinary` where it cannot answer by itself.

    `variables` are those of `ordinary`. Returns None if the route has no gates, has other
    dependencies before them or sends a stream.
    """
    if not _VARIABLES.issuperset(variables):
        return None
    try:
        dependant: Dependant = variables["dependant"]
        provider = variables["dependency_overrides_provider"]
        is_coroutine: bool = variables["is_coroutine"]
        reads_body = variables["body_field"] is not None
        is_stream = variables["is_sse_stream"] or variables["is_json_stream"]
        answer = _Answer(variables)
    except KeyError:
        return None  # a version of FastAPI that is not known
    endpoint, dependencies = dependant.call, dependant.dependencies
    gates, others = _divided(dependencies)
    if not isinstance(endpoint, FunctionType) or provider is None or not gates:
        return None
    function = inspect.unwrap(endpoint)
    is_stream |= inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if is_stream:
        return None
    solve, run = _FUNCTIONS["solve_dependencies"], _FUNCTIONS["run_endpoint_function"]
    rest, calls = replace(dependant, dependencies=others), [each.call for each in dependencies]
    needs_more = bool(others) or any(getattr(rest, name) for name in _NEEDS)
    place_of = _Place(endpoint, dependant.path)

    def is_changed(request: Request) -> bool:
        # In every request: comparisons of objects cost less than those of lists.
        if (
            provider.dependency_overrides
            or dependant.call is not endpoint
            or _FUNCTIONS["solve_dependencies"] is not solve
            or _FUNCTIONS["run_endpoint_function"] is not run
            or len(dependant.dependencies) != len(calls)
            or request.scope.get("fastapi.telemetry") is not None
        ):
            return True
        for each, call in zip(dependant.dependencies, calls, strict=True):
            if each.call is not call:
                return True
        return False

    first = [gate for gate, _ in gates if gate.requirements.writes is None]

    async def handle_body(request: Request) -> Response:
        if not is_changed(request):
            await _refuse_before_body(first, request)
        return await ordinary(request)

    async def handle(request: Request) -> Response:
        if is_changed(request):
            return await ordinary(request)
        values, solved = dict[str, Any](), None
        for gate, names in gates:
            value = await gate(request)
            for name in names:
                values[name] = value
        if needs_more:
            solved = await solve_dependencies(
                request=request,
                dependant=rest,
                dependency_overrides_provider=provider,
                async_exit_stack=request.scope["fastapi_inner_astack"],
                embed_body_fields=False,
            )
            if solved.errors:
                raise RequestValidationError(solved.errors, endpoint_ctx=place_of(request))
            values |= solved.values
        if is_coroutine:
            result = await endpoint(**values)
        else:
            result = await run_in_threadpool(partial(endpoint, **values))
        try:
            return await answer(result, solved)
        except ResponseValidationError as error:
            raise ResponseValidationError(
                error.errors(), body=error.body, endpoint_ctx=place_of(request)
            ) from None

    return handle_body if reads_body else handle


async def _refuse_before_body(gates: Sequence[Gate[object]], connection: HTTPConnection) -> None:
    """Raises what the gates of a route raise, before the body of the request is read.

    It decides for the refusal only: the gates are asked again after the body, which may take long
    enough for a session to end. A route that accepts a strategy without `asked_before_body` is
    asked after it only.
    """
    context = context_of(connection)
    bindings = [gate.bind(context.runtime) for gate in gates]
    if not all(each.asked_before_body for binding in bindings for each in binding.strategies):
        return
    discards = context.discards
    try:
        for gate in gates:
            await resolve(gate, connection)
    except Exception:
        discard_body(connection.scope, _MAX_DISCARDED)
        raise
    context.counted = frozenset(context.outcomes)
    context.outcomes.clear()
    context.identity, context.discards = None, discards


class _Answer:
    """Makes the response of what an endpoint returns, as FastAPI does.

    Raises KeyError if the `variables` of FastAPI's handler lack what it needs.
    """

    def __init__(self, variables: dict[str, Any]) -> None:
        field = variables["response_field"]
        has_default_class = isinstance(variables["response_class"], DefaultPlaceholder)
        self._dumps = field is not None and has_default_class
        self._class: type[Response] = variables["actual_response_class"]
        self._status: int | None = variables["status_code"]
        self._options: dict[str, Any] = {
            "field": field,
            "dump_json": self._dumps,
            "is_coroutine": variables["is_coroutine"],
        } | {name: variables[f"response_model_{name}"] for name in _MODEL_OPTIONS}

    async def __call__(self, result: Any, solved: Any) -> Response:
        """Returns the response; `solved` is what FastAPI has solved, or None.

        Raises ResponseValidationError if `result` does not fit the model of the route.
        """
        background = None if solved is None else solved.background_tasks
        if isinstance(result, Response):
            if result.background is None:
                result.background = background
            return result
        content = await routing.serialize_response(response_content=result, **self._options)
        status = self._status
        if solved is not None and solved.response.status_code:
            status = solved.response.status_code
        options: dict[str, Any] = {"background": background}
        if status:
            options["status_code"] = status
        if self._dumps:
            response = Response(content, media_type="application/json", **options)
        else:
            response = self._class(content, **options)
        if not is_body_allowed_for_status_code(response.status_code):
            response.body = b""
        if solved is not None:
            response.headers.raw.extend(solved.response.headers.raw)
        return response


def gates_with_request(dependant: Dependant) -> list[GateOf]:
    """Returns the gates of a function that needs only them and the parameter `request`; else none.

    Each has the names of the parameters that get its result, at least one.
    """
    gates, others = _divided(dependant.dependencies)
    needs = {name for name in _NEEDS if getattr(dependant, name)}
    is_simple = needs == {"request_param_name"} and dependant.request_param_name == "request"
    return gates if is_simple and not others and all(names for _, names in gates) else []


def _divided(
    dependencies: Sequence[Dependant],
) -> tuple[list[GateOf], list[Dependant]]:
    """Returns the gates that come first, with the parameters that get their results; and the rest.

    A gate is asked once, also for several parameters, as FastAPI asks it.
    """
    gates: dict[Gate[object], list[str]] = {}
    for index, each in enumerate(dependencies):
        if not isinstance(each.call, Gate) or not _is_plain(each):
            return list(gates.items()), list(dependencies[index:])
        names = gates.setdefault(each.call, [])
        if each.name is not None:
            names.append(each.name)
    return list(gates.items()), []


def _is_plain(gate: Dependant) -> bool:
    """Whether nothing is said about a gate but its requirements, as by `Security` or a scope."""
    return (
        gate.http_connection_param_name == "connection"
        and not any(getattr(gate, name) for name in _NEEDS if name not in _NEEDS_OF_GATE)
        and not gate.dependencies
        and not gate.own_oauth_scopes
        and not gate.parent_oauth_scopes
        and gate.scope is None
        and gate.concurrency is None
    )


class _Place:
    """Where an endpoint is, for the errors of FastAPI: its file and line, found once; its path."""

    def __init__(self, endpoint: Callable[..., Any], path: str | None) -> None:
        self._endpoint, self._path = endpoint, path
        self._source: dict[str, object] | None = None

    def __call__(self, request: Request) -> Any:
        """Returns what FastAPI says in its errors."""
        if self._source is None:
            self._source = self._find()
        if not self._path:
            return self._source
        mount = request.scope.get("root_path", "").rstrip("/")
        return {**self._source, "path": f"{request.method} {mount}{self._path}"}

    def _find(self) -> dict[str, object]:
        try:
            return {
                "file": inspect.getsourcefile(self._endpoint),
                "line": inspect.getsourcelines(self._endpoint)[1],
                "function": self._endpoint.__name__,
            }
        except Exception:  # as FastAPI: the file may be missing, or edited since the start
            return {}
