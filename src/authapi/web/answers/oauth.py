"""How refusals look on the OAuth endpoints.

OAuth clients read `application/json` with `error` and `error_description` (RFC 6749, section 5.2;
RFC 7009, section 2.2.1; RFC 7662, section 2.3), and some refuse to read anything else. The members
of a problem document (RFC 9457) stand beside these two.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

from fastapi.routing import RouteContext
from starlette._utils import get_route_path
from starlette.types import Scope

from authapi.web.answers.owners import ROUTES, is_defined_in, is_ours

MEDIA_TYPE: Final = "application/json"
PREFIX: Final = "/token"
"""The token endpoint; the other OAuth endpoints are below it."""

UNITS: Final = frozenset({"grants", "revocation", "introspection"})
"""The units of routes with OAuth endpoints."""

_PACKAGE: Final = f"{ROUTES}oauth."
_NOT_DESCRIBABLE: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""What `error_description` may not have (RFC 6749, section 5.2)."""
_OF_CODE: Final = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "invalid_scope"),
        *("unsupported_grant_type", "insufficient_scope"),
    }
)
"""Codes of ours that are error codes of OAuth as well (RFC 6749, section 5.2; RFC 6750, 3.1)."""
_HTTP_VERSION: Final = 505
"""Of the statuses from 500 on, the one that tells of the request."""
_UNAVAILABLE: Final = frozenset({429, 503})


def is_oauth_path(path: str) -> bool:
    """Whether `path` is the token endpoint or below it."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def is_endpoint(route: RouteContext) -> bool:
    """Whether `route` is one of the OAuth endpoints."""
    path = getattr(route, "path_format", None) or ""
    return is_oauth_path(path) and is_defined_in(_PACKAGE, route)


def wants_oauth_error(scope: Scope, units: Collection[str]) -> bool:
    """Whether a refusal of this request is read by an OAuth client.

    True for the OAuth endpoints of an application that has some of them (`units`), and for paths
    below them that do not exist; False where the application has a route of its own.
    """
    if not is_oauth_path(get_route_path(scope)) or UNITS.isdisjoint(units):
        return False
    return is_ours(scope, _PACKAGE)


def oauth_members(problem: Mapping[str, object], challenges: Collection[str]) -> dict[str, str]:
    """`error` and `error_description` for a problem document with these challenges."""
    detail = problem["detail"]
    text = detail if isinstance(detail, str) else str(problem["title"])
    return {
        "error": _error_of(problem, challenges),
        "error_description": _NOT_DESCRIBABLE.sub("'", text),
    }


def _error_of(problem: Mapping[str, object], challenges: Collection[str]) -> str:
    code, status = str(problem["code"]), problem["status"]
    if code in _OF_CODE:
        return code
    if status == 401:
        # RFC 7662, section 2.3: a bearer token is refused as in RFC 6750, any other client
        # authentication, and its absence, as in RFC 6749.
        is_of_token = any('error="invalid_token"' in item for item in challenges)
        return "invalid_token" if is_of_token else "invalid_client"
    if status in _UNAVAILABLE:
        return "temporarily_unavailable"
    is_failure = isinstance(status, int) and status >= 500 and status != _HTTP_VERSION
    return "server_error" if is_failure else "invalid_request"
