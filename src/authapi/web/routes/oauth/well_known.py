"""/.well-known: the public keys of JWTs, and OAuth metadata."""

import json

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from authapi.services.keys import JWKS_MAX_AGE
from authapi.web.answers.conditional import (
    IF_NONE_MATCH,
    READ_ONLY_RESPONSES,
    Representation,
    conditional_response,
)
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routes.oauth.metadata import authorization_server, protected_resource
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.oauth import AuthorizationServer, JWKSetOut, ProtectedResource

router = APIRouter(route_class=AuthAPIRoute, tags=["metadata"], prefix="/.well-known")

_CACHE_CONTROL = f"public, max-age={int(JWKS_MAX_AGE.total_seconds())}"


@router.get(
    "/jwks.json",
    response_model=JWKSetOut,
    responses=READ_ONLY_RESPONSES | problems(503),
    openapi_extra=IF_NONE_MATCH,
)
async def jwks(request: Request) -> Response:
    """Get the public keys that verify JWTs of this service (RFC 7517)."""
    body = json.dumps(await context_of(request).runtime.services.keys.jwk_set()).encode()
    return conditional_response(request, Representation.of(body), cache_control=_CACHE_CONTROL)


@router.get(
    "/oauth-authorization-server",
    response_model=AuthorizationServer,
    responses=READ_ONLY_RESPONSES,
    openapi_extra=IF_NONE_MATCH,
)
async def server_metadata(request: Request) -> Response:
    """Get the metadata of the authorization server (RFC 8414)."""
    return _document_response(request, authorization_server(context_of(request).runtime))


async def resource_metadata(request: Request) -> Response:
    """Get the metadata of the protected resource (RFC 9728). Bearer challenges link to it."""
    name = request.app.title
    return _document_response(request, protected_resource(context_of(request).runtime, name))


def add_resource_metadata(router: APIRouter, path: str) -> None:
    """Add the route of the protected resource metadata to `router`, at `path`."""
    router.add_api_route(
        path,
        resource_metadata,
        methods=["GET"],
        response_model=ProtectedResource,
        responses=READ_ONLY_RESPONSES,
        openapi_extra=IF_NONE_MATCH,
    )


add_resource_metadata(router, "/oauth-protected-resource")


def _document_response(request: Request, document: BaseModel) -> Response:
    body = document.model_dump_json(exclude_none=True).encode()
    return conditional_response(request, Representation.of(body), cache_control=_CACHE_CONTROL)
