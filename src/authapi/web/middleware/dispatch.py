"""Dispatches a request for a path of authapi to the few of its routes that can have that path.

FastAPI asks the routes of an included router one after the other, and does so twice: whether the
router takes the request, and which route answers it. authapi has a hundred routes, so the search
would cost more than most handlers. For a path without parameters the route is known from path and
method; for any other path the candidates are those with the same first segment.

A request for a route with a `direct` handler needs nothing of FastAPI (`ProtectedRoute`). The
layers of FastAPI would cost it more than its answer, so `shortcut` goes around them, unless the
application has layers of its own there.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from copy import copy
from operator import itemgetter
from typing import Any, Final, TypeAlias

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send

from authapi.web.context import SCOPE_KEY, RequestContext
from authapi.web.middleware.cors import ProblemCORSMiddleware
from authapi.web.middleware.guest import OwnRoutes

Answer: TypeAlias = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]
"""Passes a request to the first argument, and answers its errors."""
_FORGET: Final = ("matches", "effective_candidates")
"""The methods of an included router that a copy must not take over from its original."""


class Dispatcher:
    """The search for the route of a request among those of `included`, our router in `app`.

    Requests for other paths go to `others`, the search of the application.
    """

    def __init__(self, app: FastAPI, included: Any, others: ASGIApp) -> None:
        self.app, self.included, self.others = app, included, others
        self.answer: Answer = included.original_router.answer
        self._by_path: dict[str, ASGIApp] = {}
        """The routes with a path, for paths without parameters. One of them has it, so that no
        search goes before the answer."""
        self._by_segment: dict[str, ASGIApp] = {}
        self.direct: dict[str, ASGIApp] = {}
        """What answers GET at a path without FastAPI."""
        self.is_built = False

    def shortcut(self, stack: ASGIApp) -> "Shortcut | None":
        """Returns the shortcut past `stack`, which leads to this search.

        Requests still pass the CORS layer of authapi. Returns None if `stack` has other layers than
        those of FastAPI and authapi.
        """
        layers = list(_layers_of(self.app, stack))
        known = {OwnRoutes, ProblemCORSMiddleware, *_types_of_fastapi()}
        if not all(type(layer) in known and _is_known(layer) for layer in layers):
            return None
        cors = next((layer for layer in layers if isinstance(layer, ProblemCORSMiddleware)), None)
        return Shortcut(self, cors)

    def forget_routes(self) -> None:
        """Reads the routes again at the next request, because some were removed."""
        self.is_built = False

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # As `is_for_own_path`, without a call in every request of the application.
        context = scope.get(SCOPE_KEY)
        if type(context) is not RequestContext or context.own_path != scope["path"]:
            return self.others(scope, receive, send)
        if not self.is_built:
            self.build()
        scope.setdefault("router", self.app.router)
        path: str = get_route_path(scope) if scope.get("root_path") else scope["path"]
        handle = self._by_path.get(path) if scope["type"] == "http" else None
        if handle is None:
            handle = self._by_segment.get(_first_segment(path), self.others)
        return handle(scope, receive, send)

    def build(self) -> None:
        """Reads the routes."""
        self._by_path.clear()
        self._by_segment.clear()
        self.direct.clear()
        candidates = self.included.effective_candidates()
        segments: dict[str, list[Any]] = {}
        for each in candidates:
            segments.setdefault(_first_segment(_route(each).path_format), []).append(each)
        for segment, found in segments.items():
            entry = APIRouter(redirect_slashes=False)
            entry.routes.append(self._with(found))
            entry.default = self.others  # for a path of authapi whose route is added otherwise
            self._by_segment[segment] = entry
        for path, found in _by_fixed_path(candidates).items():
            self._by_path[path] = self._chosen(path, found)
        self.is_built = True

    def _chosen(self, path: str, candidates: Sequence[Any]) -> ASGIApp:
        """Returns what answers at a path that all of these routes have."""
        search: ASGIApp = self._with(candidates).handle
        if not all(isinstance(each.original_route, APIRoute) for each in candidates):
            return search
        if any("{" in _route(each).path_format for each in candidates):
            return search  # another method may be that of a route with a parameter
        for each in candidates:
            direct = getattr(each.original_route, "direct", None)
            if "GET" in each.methods and direct is not None:
                self.direct[path] = _ToRoute(self, [each], search, direct)
            if "GET" in each.methods:
                break
        return _ToRoute(self, candidates, search)

    def _with(self, candidates: Sequence[Any]) -> Any:
        """Returns the included router with these routes only."""
        narrow = copy(self.included)
        for name in _FORGET:
            vars(narrow).pop(name, None)
        narrow.effective_candidates = lambda: candidates
        return narrow


class _ToRoute:
    """Answers requests at a path by the one of its routes that has their method.

    `direct` answers in place of the only route. Requests that the telemetry of FastAPI follows go
    to `search`.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        candidates: Sequence[Any],
        search: ASGIApp,
        direct: ASGIApp | None = None,
    ) -> None:
        self._answer, self._router = dispatcher.answer, dispatcher.app.router
        # Without the method, the search of FastAPI chooses the first route, which answers 405.
        self._first = candidates[0]
        self._by_method = {method: each for each in reversed(candidates) for method in each.methods}
        self._search, self._direct = search, direct

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope.get("fastapi.telemetry") is not None:
            return self._search(scope, receive, send)
        chosen = self._by_method.get(scope["method"], self._first)
        # What FastAPI adds for the route of a path without parameters.
        route = scope["route"] = chosen.original_route
        scope["endpoint"] = chosen.endpoint
        scope.setdefault("router", self._router)
        scope.setdefault("path_params", {})
        scope.setdefault("fastapi", {})["effective_route_context"] = chosen
        return self._answer(self._direct or route.handle, scope, receive, send)


class Shortcut:
    """The way past the layers of FastAPI, behind the CORS layer `cors` if there is one."""

    def __init__(self, dispatcher: Dispatcher, cors: ProblemCORSMiddleware | None) -> None:
        self._dispatcher, self._cors = dispatcher, cors
        self.paths: Collection[str] = dispatcher.direct.keys()
        """The paths at which GET may take it; none before the first request."""
        self._behind_cors: dict[ASGIApp, ASGIApp] = {}

    def __call__(self, scope: Scope) -> ASGIApp | None:
        """Returns what answers a request without a body in place of the application, if any."""
        dispatcher = self._dispatcher
        if not dispatcher.is_built:
            dispatcher.build()
        found = dispatcher.direct.get(scope["path"])
        if (
            found is None
            or scope["method"] != "GET"
            or scope.get("root_path")
            or dispatcher.app.dependency_overrides
            or dispatcher.app.router.middleware_stack is not dispatcher
            or scope.get("fastapi.telemetry") is not None
        ):
            return None
        if self._cors is not None and found not in self._behind_cors:
            self._behind_cors[found] = layer = copy(self._cors)
            layer.app = found
        return self._behind_cors.get(found, found)


def _layers_of(app: FastAPI, stack: Any = None) -> Iterator[Any]:
    """Yields the layers around the router of `app`, and finally None if none leads to it."""
    layer = app.build_middleware_stack() if stack is None else stack
    while layer is not app.router:
        yield layer
        if layer is None:
            return
        layer = getattr(layer, "app", None)


def is_only_fastapi(layers: Iterable[Any]) -> bool:
    """Whether these layers are those around every application, which have nothing to do here.

    Without limits, handlers and `debug`, they only raise an error again.
    """
    known = _types_of_fastapi()
    return all(
        type(layer) in known
        and _is_known(layer)
        and getattr(layer, "handler", None) is None
        and not getattr(layer, "debug", False)
        for layer in layers
    )


def _types_of_fastapi() -> set[type]:
    return set(map(type, _layers_of(FastAPI(openapi_url=None))))


def _is_known(layer: object) -> bool:
    """Whether nothing but FastAPI or authapi may have added a layer, such as a tool for tracing."""
    return type(layer).__module__.partition(".")[0] in ("authapi", "fastapi", "starlette")


def _route(candidate: Any) -> Any:
    """Returns what has the path of a candidate. FastAPI builds a new route for one of Starlette."""
    return candidate.starlette_route or candidate


def _by_fixed_path(candidates: Sequence[Any]) -> dict[str, list[Any]]:
    """Returns the candidates that match each path without parameters, in their order.

    Besides those with this path, only those with parameters can match it. To ask each candidate for
    each path would take as long as the rest of the first request.
    """
    numbered: dict[str, list[tuple[int, Any]]] = {}
    for entry in enumerate(candidates):
        numbered.setdefault(_route(entry[1]).path_format, []).append(entry)
    patterns = [
        (path.partition("{")[0], entry)
        for path, entries in numbered.items()
        for entry in entries
        if "{" in path
    ]
    found = {}
    for path, entries in numbered.items():
        if "{" not in path:
            others = [
                entry
                for start, entry in patterns
                if path.startswith(start) and _route(entry[1]).path_regex.match(path)
            ]
            found[path] = [each for _, each in sorted(entries + others, key=itemgetter(0))]
    return found


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]
