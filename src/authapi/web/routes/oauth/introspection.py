"""POST /token/introspect: token introspection for resource servers (RFC 7662)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.domain.scopes import INTROSPECT
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routes.oauth.clients import client_gate, require_one_method
from authapi.web.routes.oauth.forms import CLIENT_BODY, oauth_form, token_parameter
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.oauth import INACTIVE, ActiveToken, InactiveToken

router = APIRouter(route_class=ProtectedRoute, tags=["login"])

ResourceServer = Annotated[Identity, Depends(client_gate(INTROSPECT))]


@router.post(
    "/token/introspect",
    response_model=ActiveToken | InactiveToken,
    responses=problems(400, 401, 403, 408, 415, 503),
    openapi_extra=CLIENT_BODY,
)
async def introspect(resource_server: ResourceServer, request: Request) -> Response:
    """Introspect a token. Requires the scope `introspect`, which logins of superusers have.

    A resource server authenticates with a personal access token that has this scope, either as a
    bearer token or as client secret with the id of the token as client id (`client_secret_basic`,
    `client_secret_post`). For a token that is not valid, the response is only `active: false`.
    """
    require_one_method(request, await oauth_form(request))
    runtime, token = context_of(request).runtime, await token_parameter(request)
    token_info = await runtime.services.tokens.introspection.introspect(token)
    # If the strategy for this kind of token is not installed, this service does not accept the
    # token, so it is not active.
    if token_info is None or token_info.session.kind.value not in runtime.registry:
        body = INACTIVE
    else:
        active = ActiveToken.of(token_info, runtime.settings.issuer)
        body = active.model_dump_json(exclude_none=True)
    return Response(body, media_type="application/json")
