"""/me/factors/passkeys: the passkeys of the caller; and the origins that may use passkeys."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.services.factors.webauthn.relying_party import other_sites
from authapi.strategies.base import read_header
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.answers.renewals import renewal_of, secret_of, with_renewal
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.factors.changes import FreshOwner
from authapi.web.routing import RELATED_ORIGINS, AuthAPIRoute, ProtectedRoute
from authapi.web.schemas.factors.passkeys import (
    AddedPasskeyOut,
    CreationOptionsOut,
    NewPasskey,
    PasskeyChange,
    PasskeyOut,
    RelatedOriginsOut,
    RequestOptionsOut,
)

router = APIRouter(route_class=ProtectedRoute, tags=["second factors"])
related_origins = APIRouter(route_class=AuthAPIRoute, tags=["metadata"])

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt", writes="by_session"))]
_RENEWED: dict[int | str, dict[str, Any]] = {
    201: response_header("Set-Cookie", "The new cookie, if the request had one.")
}


@router.post("/me/factors/passkeys/options", responses=problems(401, 403, 404, 409, 429, 503))
async def creation_options(identity: FreshOwner, request: Request) -> CreationOptionsOut:
    """Get the options for `navigator.credentials.create()`. Requires a recent login.

    The answer is valid in this session, once, for five minutes.
    """
    passkeys = context_of(request).runtime.services.factors.passkeys
    options = await passkeys.options(identity, origin=read_header(request, b"origin"))
    return CreationOptionsOut.of(options)


@router.post(
    "/me/factors/passkeys",
    status_code=201,
    response_model=AddedPasskeyOut,
    responses=_RENEWED | problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
)
async def add_passkey(body: NewPasskey, identity: FreshOwner, request: Request) -> Response:
    """Add the passkey that an authenticator has created. Requires a recent login.

    With the first second factor, the response has the recovery codes of your account, and all your
    other logins end; personal access tokens stay. A session cookie is replaced.
    """
    runtime = context_of(request).runtime
    renewal = renewal_of(runtime.registry, identity)
    added = await runtime.services.factors.passkeys.add(
        identity, body.credential.attestation(), body.name, new_secret_hash=secret_of(renewal)
    )
    answer = AddedPasskeyOut(passkey=PasskeyOut.of(added.passkey))
    if added.recovery_codes is not None:
        answer.recovery_codes = list(added.recovery_codes)
    content = answer.model_dump_json(exclude_unset=True)
    return with_renewal(Response(content, status_code=201, media_type="application/json"), renewal)


@router.patch(
    "/me/factors/passkeys/{passkey_id:uuid}",
    responses=problems(400, 401, 404, 408, 415, 422, 429, 503),
)
async def rename_passkey(
    passkey_id: UUID, body: PasskeyChange, identity: Owner, request: Request
) -> PasskeyOut:
    """Rename one of your passkeys."""
    passkeys = context_of(request).runtime.services.factors.passkeys
    return PasskeyOut.of(await passkeys.rename(identity, passkey_id, body.name))


@router.delete(
    "/me/factors/passkeys/{passkey_id:uuid}",
    status_code=204,
    responses=problems(401, 404, 409, 422, 429, 503),
)
async def remove_passkey(passkey_id: UUID, identity: FreshOwner, request: Request) -> None:
    """Remove one of your passkeys. With your last second factor, your recovery codes end.

    Requires a recent login that has proved a second factor. The only passkey of an account without
    a password stays.
    """
    await context_of(request).runtime.services.factors.passkeys.remove(identity, passkey_id)


@router.post("/me/reauthenticate/options", responses=problems(401, 403, 429, 503))
async def step_up_options(identity: Owner, request: Request) -> RequestOptionsOut:
    """Get the options for `navigator.credentials.get()`, to prove one of your passkeys again."""
    step_up = context_of(request).runtime.services.factors.step_up
    options = await step_up.passkey_options(identity, origin=read_header(request, b"origin"))
    return RequestOptionsOut.of(options)


@related_origins.get(RELATED_ORIGINS, responses=problems(403))
async def read_related_origins(request: Request) -> RelatedOriginsOut:
    """Get the origins of other sites that may use the passkeys (WebAuthn Level 3, section 5.11)."""
    settings = context_of(request).runtime.services.settings
    return RelatedOriginsOut(origins=list(other_sites(settings)))
