"""/.well-known: what others need to verify our JWTs."""

import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.services.keys import PUBLISHED_FOR
from authapi.web.caching import cacheable_json
from authapi.web.context import context_of
from authapi.web.openapi import request_header, response_header
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas import JWKSetOut

router = APIRouter(route_class=AuthAPIRoute, tags=["metadata"], prefix="/.well-known")

_MAX_AGE = int(PUBLISHED_FOR.total_seconds())
_ETAG = response_header("ETag", "For If-None-Match.", required=True)


@router.get(
    "/jwks.json",
    response_model=JWKSetOut,
    responses={200: _ETAG, 304: {"description": "Unchanged", **_ETAG}},
    openapi_extra=request_header("If-None-Match", "An ETag; 304 if it is still the same."),
)
async def jwks(request: Request) -> Response:
    """The public keys of our JWTs (RFC 7517)."""
    body = json.dumps(await context_of(request).runtime.services.keys.jwk_set()).encode()
    return cacheable_json(request, body, cache_control=f"public, max-age={_MAX_AGE}")
