"""/.well-known: what others need to verify our JWTs, and to find their way around here."""

import json

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from authapi.services.keys import PUBLISHED_FOR
from authapi.web.caching import cacheable_json
from authapi.web.context import context_of
from authapi.web.openapi import problems, request_header, response_header
from authapi.web.routes.oauth.metadata import authorization_server, protected_resource
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas import AuthorizationServer, JWKSetOut, ProtectedResource

router = APIRouter(route_class=AuthAPIRoute, tags=["metadata"], prefix="/.well-known")

_CACHE_CONTROL = f"public, max-age={int(PUBLISHED_FOR.total_seconds())}"
_ETAG = response_header("ETag", "For If-None-Match.", required=True)
_RESPONSES: dict[int | str, dict[str, object]] = {
    200: _ETAG,
    304: {"description": "Unchanged", **_ETAG},
}
_CONDITION = request_header("If-None-Match", "An ETag; 304 if it is still the same.")


@router.get(
    "/jwks.json",
    response_model=JWKSetOut,
    responses=_RESPONSES | problems(503),
    openapi_extra=_CONDITION,
)
async def jwks(request: Request) -> Response:
    """The public keys of our JWTs (RFC 7517)."""
    body = json.dumps(await context_of(request).runtime.services.keys.jwk_set()).encode()
    return cacheable_json(request, body, cache_control=_CACHE_CONTROL)


@router.get(
    "/oauth-authorization-server",
    response_model=AuthorizationServer,
    responses=_RESPONSES,
    openapi_extra=_CONDITION,
)
async def server_metadata(request: Request) -> Response:
    """Where tokens are to be had, ended and asked about (RFC 8414)."""
    return _published(request, authorization_server(context_of(request).runtime))


async def resource_metadata(request: Request) -> Response:
    """Who gives the tokens that are taken here (RFC 9728); each Bearer challenge points to it."""
    name = request.app.title
    return _published(request, protected_resource(context_of(request).runtime, name))


def add_resource_metadata(router: APIRouter, path: str) -> None:
    """Let `router` tell at `path` who gives the tokens that are taken here."""
    router.add_api_route(
        path,
        resource_metadata,
        methods=["GET"],
        response_model=ProtectedResource,
        responses=_RESPONSES,
        openapi_extra=_CONDITION,
    )


add_resource_metadata(router, "/oauth-protected-resource")


def _published(request: Request, document: BaseModel) -> Response:
    body = document.model_dump_json(exclude_none=True).encode()
    return cacheable_json(request, body, cache_control=_CACHE_CONTROL)
