"""Finds the routes of a path: whether authapi or the application answers, and the methods."""

from typing import Final

from fastapi.routing import RouteContext, iter_route_contexts
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.types import Scope

ROUTES: Final = f"{__package__.rpartition('.')[0]}.routes."
"""The prefix of the names of modules with routes of authapi."""
WITH_PROVIDERS: Final = "/login/with/"
"""The beginning of the paths of visits to providers, below the prefix of authapi. Their GET routes
begin and complete logins, so HEAD, which must have no effect, is refused."""


def is_own_route(scope: Scope, package: str = ROUTES) -> bool:
    """Whether the route for this path and method is defined below `package`.

    True also if no route has this path, or if the scope has no application yet. If no route has the
    method, the first route with the path decides: it answers 405.
    """
    path, method = get_route_path(scope), scope["method"]
    first_with_path: RouteContext | None = None
    for route in iter_route_contexts(getattr(scope.get("app"), "routes", ())):
        pattern = getattr(route, "path_regex", None)
        if pattern is None or not pattern.match(path):
            continue
        if not route.methods or method in route.methods:
            return is_defined_in(package, route)
        first_with_path = first_with_path or route
    return first_with_path is None or is_defined_in(package, first_with_path)


def allows_head(scope: Scope, prefix: str) -> bool:
    """Whether HEAD is answered like GET at the path of a request; `prefix` is that of authapi."""
    return not (path_below(prefix, get_route_path(scope)) or "").startswith(WITH_PROVIDERS)


def path_below(prefix: str, path: str) -> str | None:
    """Returns `path` without `prefix`, the path of authapi; None if it is not below it."""
    if not prefix:
        return path
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else None


def is_defined_in(package: str, route: RouteContext) -> bool:
    """Whether the handler of `route` is in a module below `package`."""
    endpoint = getattr(route, "endpoint", None)
    return str(getattr(endpoint, "__module__", None)).startswith(package)


def allowed_methods(request: HTTPConnection, prefix: str) -> str:
    """Returns the methods of all routes with this path, for `Allow`.

    `prefix` is the path of authapi. Starlette's own 405 response has the methods of one route only.
    """
    path = get_route_path(request.scope)
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        pattern = getattr(route, "path_regex", None)
        if route.methods and pattern is not None and pattern.match(path):
            methods |= route.methods
    if "GET" in methods and allows_head(request.scope, prefix):
        methods.add("HEAD")
    return ", ".join(sorted(methods))
