"""/me/identities: the people at providers who may log in to the account of the caller."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request

from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.federation.link import FreshOwner
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.federation.flows import LinkedIdentityOut

router = APIRouter(route_class=ProtectedRoute, tags=["identities"], prefix="/me/identities")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]


@router.get("", responses=problems(401, 503))
async def list_identities(identity: Owner, request: Request) -> list[LinkedIdentityOut]:
    """List the people at providers who may log in to your account, the oldest link first."""
    links = context_of(request).runtime.services.federation.links
    return [LinkedIdentityOut.of(linked) for linked in await links.list_of(identity.user.id)]


# OpenAPI allows no second name for a parameter of one path: see `begin_link`.
@router.delete("/{name_or_id}", status_code=204, responses=problems(401, 404, 409, 422, 429, 503))
async def unlink_identity(
    identity_id: Annotated[UUID, Path(alias="name_or_id", description="The id of an identity.")],
    identity: FreshOwner,
    request: Request,
) -> None:
    """Unlink a person at a provider, and end all logins that began there.

    Requires a recent login that has proved a second factor, if you have one. Your last way in
    stays: choose a password, or link another provider, first.
    """
    await context_of(request).runtime.services.federation.links.unlink(identity, identity_id)
