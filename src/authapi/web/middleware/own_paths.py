"""Decides whether a request is for a route of authapi or of the application in which it is a guest.

The decision is made before the middleware of the application runs, and the router follows it. It is
the one that the router of Starlette would make. A route of the application with the path and the
method of ours replaces ours (`replaced_routes`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette._utils import get_route_path
from starlette.routing import Mount, WebSocketRoute
from starlette.types import Scope

from authapi.web.requirements import gates_of

_PARAMETER = re.compile(r"{[^}]*}")
_SAMPLES = ("x", "1", "1.5", "00000000-0000-7000-8000-000000000000")
"""Values of the parameters of a path, one for each kind of convertor."""


@dataclass(frozen=True, slots=True)
class _Rival:
    """A route of the application."""

    pattern: re.Pattern[str]
    kinds: frozenset[str]
    """The types of the requests that it takes, `http` and `websocket`."""
    methods: frozenset[str] | None
    """None for all methods."""
    comes_first: bool
    """Whether it was added before our routes."""

    def takes(self, kind: str, path: str, method: str) -> bool:
        """Whether the route would answer this request if it were the only one."""
        return (
            kind in self.kinds
            and (self.methods is None or method in self.methods)
            and self.pattern.match(path) is not None
        )


class OwnPaths:
    """The paths in `app` of the routes of `own`, and the paths `others`.

    Construct it when the application has added its routes.
    """

    def __init__(self, app: FastAPI, own: APIRouter, others: Sequence[str] = ()) -> None:
        self._literal = {path: frozenset({"GET"}) for path in others}
        self._patterns: list[tuple[re.Pattern[str], frozenset[str]]] = []
        prefixes, samples = set(), set(others)
        routes: list[_Rival] = []
        paths_of_rivals: list[str] = []
        has_ours = False
        for route, is_ours in _with_owner(app, own):
            path = str(route.path_format)
            if not is_ours:
                if path not in others and getattr(route, "path_regex", None) is not None:
                    routes.append(_rival(route, comes_first=not has_ours))
                    paths_of_rivals.append(_PARAMETER.sub("x", path))
                continue
            has_ours, methods = True, frozenset(route.methods or ())
            samples |= {_PARAMETER.sub(value, path) for value in _SAMPLES}
            if "{" in path:
                prefixes.add(path.partition("{")[0])
                self._patterns.append((route.path_regex, methods))
            else:
                self._literal[path] = self._literal.get(path, frozenset()) | methods
        self._prefixes = tuple(prefixes)
        self._routes_of_app = routes
        self._rivals = [
            rival
            for rival, own_path in zip(routes, paths_of_rivals, strict=True)
            if any(rival.pattern.match(path) for path in samples)
            or any(pattern.match(own_path) for pattern, _ in self._patterns)
        ]

    def owns(self, scope: Scope) -> bool:
        """Whether authapi answers this request: a route of ours, or 404 for `is_missing`."""
        path: str = scope["path"]
        if scope.get("root_path"):
            path = get_route_path(scope)
        elif path not in self._literal and not path.startswith(self._prefixes) and path[-1:] != "/":
            return False  # nearly every request of the application
        methods = self._methods_at(path)
        if methods is None:
            return path.endswith("/") and self.is_missing(path)
        return not self._rivals or self._is_ours(scope, path, methods)

    def is_missing(self, path: str) -> bool:
        """Whether `path` is one of ours with a slash at its end, and no route has it.

        Starlette would redirect the client to an origin that the Host header names.
        """
        bare = path.rstrip("/")
        return (
            bare != path
            and self._methods_at(path) is None
            and self._methods_at(bare) is not None
            and not any(rival.pattern.match(bare) for rival in self._rivals)
            and not any(route.pattern.match(path) for route in self._routes_of_app)
        )

    def _methods_at(self, path: str) -> frozenset[str] | None:
        """Returns the methods of our routes with this path; None without such a route."""
        methods = self._literal.get(path)
        if methods is None and path.startswith(self._prefixes):
            found = [methods for pattern, methods in self._patterns if pattern.match(path)]
            return frozenset[str]().union(*found) if found else None
        return methods

    def _is_ours(self, scope: Scope, path: str, methods: frozenset[str]) -> bool:
        kind, method = scope["type"], _method_of(scope)
        takers = [rival for rival in self._rivals if rival.takes(kind, path, method)]
        if any(rival.comes_first for rival in takers):
            return False
        # Starlette prefers a route with the method to an earlier one that has only the path.
        return not takers or (kind == "http" and method in methods)


def replaced_routes(app: FastAPI, own: APIRouter) -> frozenset[int]:
    """Returns the `id` of each route of `own` whose path and methods another route of `app` has."""
    ours = [route for route, is_ours in _with_owner(app, own) if is_ours]
    theirs = [route for route, is_ours in _with_owner(app, own) if not is_ours and route.methods]
    taken: dict[str, set[str]] = {}
    for route in theirs:
        taken.setdefault(_shape(route), set()).update(route.methods or ())
    return frozenset(
        id(route.original_route)
        for route in ours
        if route.methods and route.methods <= taken.get(_shape(route), set())
    )


def paths_of_app(app: FastAPI, own: APIRouter) -> Mapping[str, bool]:
    """Returns the paths without parameters at which only routes of `app` answer.

    The value of a path is whether one of these routes has a gate. A path that a mount or a host
    takes is not among them, because a mounted application may have gates.
    """
    routes = list(_with_owner(app, own))
    if any(getattr(route, "path_regex", None) is None for route, _ in routes):
        return {}  # a route for a host takes any path
    paths = {str(route.path_format) for route, is_ours in routes if not is_ours and route.methods}
    others = [
        route.path_regex
        for route, is_ours in routes
        if is_ours or isinstance(route.original_route, Mount)
    ]
    gated = [route.path_regex for route, is_ours in routes if not is_ours and _has_gate(route)]
    return {
        path: any(pattern.match(path) for pattern in gated)
        for path in paths
        if "{" not in path and not any(pattern.match(path) for pattern in others)
    }


def _has_gate(route: RouteContext) -> bool:
    dependant = getattr(route, "dependant", None)
    return dependant is not None and any(True for _ in gates_of(dependant))


def _shape(route: RouteContext) -> str:
    """Returns the path without the names of its parameters."""
    return _PARAMETER.sub("{}", str(route.path_format))


def _with_owner(app: FastAPI, own: APIRouter) -> Iterator[tuple[RouteContext, bool]]:
    """Yields every route of `app`, and whether it is one of `own`."""
    ids = {id(route) for route in own.routes}
    for route in iter_route_contexts(app.routes):
        yield route, id(route.original_route) in ids


def _rival(route: RouteContext, *, comes_first: bool) -> _Rival:
    methods = frozenset(route.methods) if route.methods else None
    is_websocket = isinstance(route.original_route, WebSocketRoute)
    if is_websocket:
        kinds = {"websocket"}
    elif isinstance(route.original_route, Mount):
        kinds = {"http", "websocket"}
    else:
        kinds = {"http"}
    return _Rival(route.path_regex, frozenset(kinds), methods, comes_first)


def _method_of(scope: Scope) -> str:
    """Returns the method that decides: that of the announced request for a CORS preflight."""
    method: str = scope.get("method", "")
    if method == "HEAD":
        return "GET"
    if method == "OPTIONS":
        for name, value in scope["headers"]:
            if name == b"access-control-request-method":
                return str(value.decode("latin-1"))
    return method
