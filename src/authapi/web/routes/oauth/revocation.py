"""POST /token/revoke: a token, and the session that it stands for, ends (RFC 7009)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.identity import Identity
from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.resolver import identity_if_good
from authapi.web.routes.oauth.forms import TOKEN_BODY, presented_token
from authapi.web.routing import AuthAPIRoute

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

Caller = Annotated[Identity | None, Depends(identity_if_good())]


@router.post(
    "/token/revoke",
    response_class=Response,
    responses=problems(400, 401, 403, 408, 415, 503),
    openapi_extra=TOKEN_BODY,
)
async def revoke(caller: Caller, request: Request) -> Response:
    """End a token with all that belongs to its session; 200 as well for what is no token.

    Nobody has to be authenticated: whoever holds a token may end it. A request that comes with a
    credential ends tokens of that account only; a credential that is not good counts as none. A JWT
    for another service ends alone, and not the session that it came from.
    """
    token = await presented_token(request)
    await context_of(request).runtime.services.token_states.revoke(token, caller=caller)
    # RFC 7009, section 2.2: clients ignore the body, so there is none. Some, such as simple-oauth2,
    # read no answer without this type.
    return Response(media_type="application/json")
