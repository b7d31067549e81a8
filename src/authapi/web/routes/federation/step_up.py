"""POST /me/reauthenticate/with/{provider}: a session proves again at a provider whose it is."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.federation.flow import FlowIntent
from authapi.errors import InputError, InvalidInput
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.federation.beginning import parse_continue, upstream_of
from authapi.web.routes.federation.link import KEPT, begin_for
from authapi.web.routes.federation.start import leading_to
from authapi.web.routes.me import Owner
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.federation.flows import FlowOut, LinkRequest

router = APIRouter(route_class=ProtectedRoute, tags=["account"], prefix="/me/reauthenticate/with")


@router.post(
    "/{provider}",
    response_model=FlowOut,
    responses=KEPT | problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def begin_reauthentication(
    provider: str, identity: Owner, request: Request, body: LinkRequest | None = None
) -> Response:
    """Begin to prove again at a provider who you are.

    Lead the browser to the `url` of the response. When it comes back, this session counts as a
    recent login, if you have logged in there within five minutes, as a person who is linked to your
    account. A provider that does not tell when people have logged in is refused with 422.
    """
    upstream = upstream_of(context_of(request).runtime, provider)
    if not upstream.proves_fresh_login:
        message = "does not tell when a person has logged in"
        raise InvalidInput(InputError(("path", "provider"), "provider_proves_no_login", message))
    continue_to = parse_continue(request, None if body is None else body.continue_to)
    url, headers = await begin_for(request, identity, provider, FlowIntent.STEP_UP, continue_to)
    return leading_to(url, headers, as_json=True)
