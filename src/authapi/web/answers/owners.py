"""Whose route a request is for: one of ours, or one of the application that we are installed in."""

from typing import Final

from fastapi.routing import RouteContext, iter_route_contexts
from starlette._utils import get_route_path
from starlette.types import Scope

ROUTES: Final = f"{__package__.rpartition('.')[0]}.routes."
"""How the names of the modules with our routes begin."""


def is_ours(scope: Scope, package: str = ROUTES) -> bool:
    """Whether the route for this path and method is defined below `package`.

    Also True if no route has this path, or if the application is not known yet. Where no route has
    the method, the first with the path counts: it answers 405.
    """
    path, method = get_route_path(scope), scope["method"]
    other: RouteContext | None = None
    for route in iter_route_contexts(getattr(scope.get("app"), "routes", ())):
        pattern = getattr(route, "path_regex", None)
        if pattern is None or not pattern.match(path):
            continue
        if not route.methods or method in route.methods:
            return is_defined_in(package, route)
        other = other or route
    return other is None or is_defined_in(package, other)


def is_defined_in(package: str, route: RouteContext) -> bool:
    """Whether the handler of `route` is in a module below `package`."""
    endpoint = getattr(route, "endpoint", None)
    return str(getattr(endpoint, "__module__", None)).startswith(package)
