"""Error responses of the OAuth endpoints.

OAuth clients expect `application/json` with `error` and `error_description` (RFC 6749, section 5.2;
RFC 7009, section 2.2.1; RFC 7662, section 2.3), and some accept no other media type. The body has
the members of a problem document (RFC 9457) as well.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

from fastapi.routing import RouteContext
from starlette._utils import get_route_path
from starlette.types import Scope

from authapi.web.answers.route_ownership import (
    ROUTES,
    is_defined_in,
    is_own_route,
    path_below,
)

MEDIA_TYPE: Final = "application/json"
PREFIX: Final = "/token"
"""The token endpoint. The other OAuth endpoints are below it."""

UNITS: Final = frozenset({"grants", "revocation", "introspection"})
"""The units of routes with OAuth endpoints."""

_PACKAGE: Final = f"{ROUTES}oauth."
_NOT_DESCRIBABLE: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""Characters that `error_description` must not contain (RFC 6749, section 5.2)."""
_OAUTH_CODES: Final = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "invalid_scope"),
        *("unsupported_grant_type", "insufficient_scope"),
    }
)
"""Problem codes that are OAuth error codes too (RFC 6749, section 5.2; RFC 6750, section 3.1)."""
_HTTP_VERSION: Final = 505
"""The one status from 500 on that the request causes, and not the server."""
_UNAVAILABLE: Final = frozenset({429, 503})


def is_oauth_path(path: str, prefix: str = "") -> bool:
    """Whether `path` is the token endpoint or below it. `prefix` is the path of authapi."""
    own = path_below(prefix, path)
    return own is not None and (own == PREFIX or own.startswith(f"{PREFIX}/"))


def is_endpoint(route: RouteContext, prefix: str) -> bool:
    """Whether `route` is one of the OAuth endpoints of the authapi with this `prefix`."""
    path = getattr(route, "path_format", None) or ""
    return is_oauth_path(path, prefix) and is_defined_in(_PACKAGE, route)


def wants_oauth_error(scope: Scope, units: Collection[str], prefix: str) -> bool:
    """Whether the response to a refused request is for an OAuth client.

    `prefix` is the path of authapi. True for the OAuth endpoints and for unknown paths below them,
    if `units` contains one of them. False for routes of the importing application.
    """
    if not is_oauth_path(get_route_path(scope), prefix) or UNITS.isdisjoint(units):
        return False
    return is_own_route(scope, _PACKAGE)


def oauth_members(problem: Mapping[str, object], challenges: Collection[str]) -> dict[str, str]:
    """Returns `error` and `error_description` for a problem document with these challenges."""
    detail = problem["detail"]
    text = detail if isinstance(detail, str) else str(problem["title"])
    return {
        "error": _error_code(problem, challenges),
        "error_description": _NOT_DESCRIBABLE.sub("'", text),
    }


def _error_code(problem: Mapping[str, object], challenges: Collection[str]) -> str:
    code, status = str(problem["code"]), problem["status"]
    if code in _OAUTH_CODES:
        return code
    if status == 401:
        # RFC 7662, section 2.3: RFC 6750 defines the error for a bearer token, RFC 6749 that for
        # any other client authentication and for its absence.
        is_bearer = any('error="invalid_token"' in challenge for challenge in challenges)
        return "invalid_token" if is_bearer else "invalid_client"
    if status in _UNAVAILABLE:
        return "temporarily_unavailable"
    is_failure = isinstance(status, int) and status >= 500 and status != _HTTP_VERSION
    return "server_error" if is_failure else "invalid_request"
