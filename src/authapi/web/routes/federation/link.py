"""POST /me/identities/{provider} begins to link a provider to the account of the caller."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from authapi.domain.federation.flow import FlowIntent
from authapi.domain.identity import Identity
from authapi.errors import InvalidCredential
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.context import context_of
from authapi.web.federation.beginning import begin, parse_continue, upstream_of
from authapi.web.federation.flows import FlowStart, Headers
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.federation.start import leading_to
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.federation.flows import FlowOut, LinkRequest

router = APIRouter(route_class=ProtectedRoute, tags=["identities"], prefix="/me/identities")

FreshOwner = Annotated[
    Identity,
    Depends(
        identity_if_configured("session", "jwt", fresh=True, mfa="enrolled", writes="by_session")
    ),
]


KEPT: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "Keeps the flow in the browser for ten minutes.")
}


@router.post(
    "/{name_or_id}",
    response_model=FlowOut,
    responses=KEPT | problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def begin_link(
    provider: Annotated[str, Path(alias="name_or_id", description="The name of a provider.")],
    identity: FreshOwner,
    request: Request,
    body: LinkRequest | None = None,
) -> Response:
    """Begin to link a provider to your account. Requires a recent login.

    Lead the browser to the `url` of the response. When it comes back, the provider is linked if
    this login has not ended meanwhile.
    """
    continue_to = parse_continue(request, None if body is None else body.continue_to)
    url, headers = await begin_for(request, identity, provider, FlowIntent.LINK, continue_to)
    return leading_to(url, headers, as_json=True)


async def begin_for(
    request: Request,
    identity: Identity,
    provider: str,
    intent: FlowIntent,
    continue_to: str | None,
) -> tuple[str, Headers]:
    """Begins a flow that belongs to the account and the session of the caller.

    Returns the address at the provider, and the headers that keep the flow in the browser. Raises
    InvalidCredential for a credential without a session or account, ProviderUnknown,
    ProviderUnavailable and TooManyAttempts.
    """
    upstream_of(context_of(request).runtime, provider)
    if identity.session_id is None:
        raise InvalidCredential
    async with context_of(request).runtime.services.database.read() as store:
        row = await store.users.find_credentials(identity.user.id)
    if row is None:
        raise InvalidCredential
    start = FlowStart(
        provider,
        identity.strategy,
        intent=intent,
        continue_to=continue_to,
        user_id=identity.user.id,
        session_id=identity.session_id,
        credentials_version=row.version,
    )
    return await begin(request, start, hint=identity.user.email)
