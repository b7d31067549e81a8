"""POST /token/revoke: revokes a token and its session (RFC 7009)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_valid
from authapi.web.routes.oauth.forms import TOKEN_BODY, token_parameter
from authapi.web.routing import AuthAPIRoute

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

Caller = Annotated[Identity | None, Depends(identity_if_valid())]


@router.post(
    "/token/revoke",
    response_class=Response,
    responses=problems(400, 401, 403, 408, 415, 503),
    openapi_extra=TOKEN_BODY,
)
async def revoke(caller: Caller, request: Request) -> Response:
    """Revoke a token, and all other tokens of its session. The response is also 200 for an invalid
    token.

    The request needs no authentication: the token itself authorizes its revocation. A request with
    a credential can revoke only tokens of that account; an invalid credential is ignored. Revoking
    a JWT for another service does not end the session that it was issued from.
    """
    token = await token_parameter(request)
    await context_of(request).runtime.services.tokens.revocation.revoke(token, caller=caller)
    # RFC 7009, section 2.2: clients ignore the body, so it is empty. Some clients, such as
    # simple-oauth2, fail without this media type.
    return Response(media_type="application/json")
