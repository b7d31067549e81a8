"""POST /token/introspect: a resource server asks what a token stands for (RFC 7662)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.identity import Identity
from authapi.services.scopes import INTROSPECT
from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.routes.oauth.clients import client_gate, require_one_method
from authapi.web.routes.oauth.forms import CLIENT_BODY, oauth_form, presented_token
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas import INACTIVE, ActiveToken, InactiveToken

router = APIRouter(route_class=ProtectedRoute, tags=["login"])

Inspector = Annotated[Identity, Depends(client_gate(INTROSPECT))]


@router.post(
    "/token/introspect",
    response_model=ActiveToken | InactiveToken,
    responses=problems(400, 401, 403, 408, 415, 503),
    openapi_extra=CLIENT_BODY,
)
async def introspect(inspector: Inspector, request: Request) -> Response:
    """What a token stands for. Asks for the scope `introspect`, which logins of superusers hold.

    A resource server authenticates by a personal access token with that scope: as a bearer token,
    or as the client whose id is that of the token (`client_secret_basic`, `client_secret_post`).
    What is no good token is not active: no reason is told.
    """
    require_one_method(request, await oauth_form(request))
    runtime, token = context_of(request).runtime, await presented_token(request)
    found = await runtime.services.token_states.introspect(token)
    # What no strategy of ours would let in is not alive for others either.
    if found is None or found.session.kind.value not in runtime.registry:
        answer = INACTIVE
    else:
        answer = ActiveToken.of(found, runtime.settings.issuer).model_dump_json(exclude_none=True)
    return Response(answer, media_type="application/json")
