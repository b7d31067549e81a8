"""/me/tokens: my personal access tokens, and JWTs for other services."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from authapi.identity import Identity
from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas import (
    NewCredential,
    NewJWT,
    NewJWTOut,
    NewToken,
    NewTokenOut,
    PersonalTokenOut,
)

router = APIRouter(route_class=ProtectedRoute, tags=["tokens"], prefix="/me/tokens")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]
Ender = Annotated[Identity, Depends(identity_if_configured("session", "jwt", writes="uncounted"))]
# A JWT is no row; a personal access token is counted by the gate that it asks besides.
Holder = Annotated[
    Identity,
    Depends(identity_if_configured("session", "jwt", exchangeable=("token",), writes="uncounted")),
]
_fresh_owner = identity_if_configured("session", "jwt", fresh=True, writes="by_account")


@router.get("", responses=problems(401, 503))
async def list_tokens(identity: Owner, request: Request) -> list[PersonalTokenOut]:
    """My personal access tokens, the newest first."""
    found = await context_of(request).runtime.services.tokens.list_of(identity.user.id)
    return [PersonalTokenOut.of(token) for token in found]


@router.post("", status_code=201, responses=problems(400, 401, 404, 408, 409, 415, 422, 429, 503))
async def create_token(
    body: NewCredential, holder: Holder, request: Request
) -> NewTokenOut | NewJWTOut:
    """Make a personal access token, or, where `kind` is `jwt`, a short JWT for another service.

    A personal access token asks for a fresh login by session or JWT; its secret is in this answer
    and nowhere else. A JWT for one of the services in the settings is had for any of my
    credentials, and never outlives that.
    """
    if isinstance(body, NewJWT):
        return await _exchange(body, holder, request)
    # Asked only now, for what is more than the gate of the route asks for.
    return await _create(body, await _fresh_owner(request), request)


@router.delete("/{token_id}", status_code=204, responses=problems(401, 404, 422, 503))
async def end_token(token_id: UUID, identity: Ender, request: Request) -> None:
    """End one of my personal access tokens."""
    await context_of(request).runtime.services.tokens.end_own(token_id, identity)


async def _create(body: NewToken, owner: Identity, request: Request) -> NewTokenOut:
    token, secret = await context_of(request).runtime.services.tokens.create(
        owner, name=body.name, scopes=body.scopes, lifetime=_seconds(body.expires_in)
    )
    shown = PersonalTokenOut.of(token).model_dump()
    return NewTokenOut(**shown, access_token=secret)


async def _exchange(body: NewJWT, caller: Identity, request: Request) -> NewJWTOut:
    token = await context_of(request).runtime.services.exchange.mint(
        caller, audience=body.audience, scopes=body.scopes, lifetime=_seconds(body.expires_in)
    )
    return NewJWTOut.of(token)


def _seconds(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(seconds=count)
