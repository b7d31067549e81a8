"""/me/tokens: personal access tokens of the caller, and JWTs for other services."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.token import (
    NewCredential,
    NewJWT,
    NewJWTOut,
    NewToken,
    NewTokenOut,
    PersonalTokenOut,
)

router = APIRouter(route_class=ProtectedRoute, tags=["tokens"], prefix="/me/tokens")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]
OwnerUncounted = Annotated[
    Identity, Depends(identity_if_configured("session", "jwt", writes="uncounted"))
]
# Issuing a JWT writes no row, so it is not counted. `_fresh_owner` counts new personal tokens.
Holder = Annotated[
    Identity,
    Depends(identity_if_configured("session", "jwt", exchangeable=("token",), writes="uncounted")),
]
_fresh_owner = identity_if_configured(
    "session", "jwt", fresh=True, mfa="enrolled", writes="by_account"
)


@router.get("", responses=problems(401, 503))
async def list_tokens(identity: Owner, request: Request) -> list[PersonalTokenOut]:
    """List your personal access tokens, the newest first."""
    tokens = await context_of(request).runtime.services.tokens.personal.list_of(identity.user.id)
    return [PersonalTokenOut.of(token) for token in tokens]


@router.post("", status_code=201, responses=problems(400, 401, 404, 408, 409, 415, 422, 429, 503))
async def create_token(
    body: NewCredential, holder: Holder, request: Request
) -> NewTokenOut | NewJWTOut:
    """Create a personal access token, or a JWT for another service (`kind`: `jwt`).

    A personal access token requires a recent login by session or JWT, with a second factor if the
    account has one. The response contains its secret, which is not shown again. A JWT is issued for
    each of your credentials, for an audience that the operator allows. It does not outlive that
    credential.
    """
    if isinstance(body, NewJWT):
        return await _exchange(body, holder, request)
    # Only this case requires more than the gate of the route.
    return await _create(body, await _fresh_owner(request), request)


@router.delete("/{token_id}", status_code=204, responses=problems(401, 404, 422, 503))
async def end_token(token_id: UUID, identity: OwnerUncounted, request: Request) -> None:
    """Revoke one of your personal access tokens."""
    await context_of(request).runtime.services.tokens.personal.end_own(token_id, identity)


async def _create(body: NewToken, owner: Identity, request: Request) -> NewTokenOut:
    token, secret = await context_of(request).runtime.services.tokens.personal.create(
        owner, name=body.name, scopes=body.scopes, lifetime=_seconds(body.expires_in)
    )
    members = PersonalTokenOut.of(token).model_dump()
    return NewTokenOut(**members, access_token=secret)


async def _exchange(body: NewJWT, caller: Identity, request: Request) -> NewJWTOut:
    token = await context_of(request).runtime.services.tokens.exchange.exchange(
        caller, audience=body.audience, scopes=body.scopes, lifetime=_seconds(body.expires_in)
    )
    return NewJWTOut.of(token)


def _seconds(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(seconds=count)
