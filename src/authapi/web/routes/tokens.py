"""/me/tokens: my personal access tokens."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from authapi.identity import Identity
from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas import NewToken, NewTokenOut, PersonalTokenOut

router = APIRouter(route_class=ProtectedRoute, tags=["tokens"], prefix="/me/tokens")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]
FreshOwner = Annotated[Identity, Depends(identity_if_configured("session", "jwt", fresh=True))]


@router.get("", responses=problems(401, 503))
async def list_tokens(identity: Owner, request: Request) -> list[PersonalTokenOut]:
    """My personal access tokens, the newest first."""
    found = await context_of(request).runtime.services.tokens.list_of(identity.user.id)
    return [PersonalTokenOut.of(token) for token in found]


@router.post("", status_code=201, responses=problems(400, 401, 404, 408, 409, 415, 422, 503))
async def create_token(body: NewToken, identity: FreshOwner, request: Request) -> NewTokenOut:
    """Make a personal access token. Its secret is in this answer and nowhere else."""
    token, secret = await context_of(request).runtime.services.tokens.create(
        identity,
        name=body.name,
        scopes=body.scopes,
        lifetime=None if body.expires_in is None else timedelta(seconds=body.expires_in),
    )
    shown = PersonalTokenOut.of(token).model_dump()
    return NewTokenOut(**shown, access_token=secret)


@router.delete("/{token_id}", status_code=204, responses=problems(401, 404, 422, 503))
async def end_token(token_id: UUID, identity: Owner, request: Request) -> None:
    """End one of my personal access tokens."""
    await context_of(request).runtime.services.tokens.end_own(token_id, identity)
