"""/me: the account of the caller, its password, and the identity of the request."""

from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.domain.user import User, UserWithProfile
from authapi.errors import PreconditionFailed
from authapi.services.usernames import UNCHANGED
from authapi.web.answers.conditional import (
    CHANGE_RESPONSES,
    IF_MATCH,
    IF_NONE_MATCH,
    READ_RESPONSES,
    REVALIDATE,
    Representation,
    conditional_response,
    staleness_check,
)
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.answers.renewals import renewal_of, secret_of, with_renewal
from authapi.web.context import context_of
from authapi.web.own_columns import profile_of
from authapi.web.resolver import current_identity, current_user, identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.fields import check_username_member
from authapi.web.schemas.login import IdentityOut, Reauthentication
from authapi.web.schemas.user import OwnChange, PasswordChange, UserOut

router = APIRouter(route_class=ProtectedRoute, tags=["account"], prefix="/me")

_RENEWED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "The new cookie, if the request had one.")
}
_DISCARDED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "Deletes the cookie, if the request had one.")
}
CurrentIdentity = Annotated[Identity, Depends(current_identity())]
CurrentUser = Annotated[User, Depends(current_user())]
Writer = Annotated[Identity, Depends(identity_if_configured(writes="by_account"))]
FreshCaller = Annotated[
    Identity,
    Depends(identity_if_configured(fresh=True, mfa="enrolled", writes="uncounted")),
]
Owner = Annotated[
    Identity,
    Depends(identity_if_configured("session", "jwt", accepts_one_factor=True, writes="by_session")),
]
"""With `mfa=required`, a login by one factor proves the second one here."""

ProvedOwner = Annotated[
    Identity, Depends(identity_if_configured("session", "jwt", mfa="enrolled", writes="by_session"))
]
"""For changes of credentials: a login from before the second factor cannot make them."""


@router.get(
    "",
    response_model=UserOut,
    responses=READ_RESPONSES | problems(401, 503),
    openapi_extra=IF_NONE_MATCH,
)
async def read_account(user: CurrentUser, request: Request) -> Response:
    """Get your account. With `If-None-Match`, the response is 304 if it has not changed."""
    own_columns = context_of(request).runtime.services.own_columns
    if own_columns.is_declared:
        user = await own_columns.attach(user)
    return conditional_response(request, _representation(user), cache_control=REVALIDATE)


@router.patch(
    "",
    response_model=UserOut,
    responses=CHANGE_RESPONSES | problems(400, 401, 404, 408, 409, 412, 415, 422, 429, 503),
    openapi_extra=IF_MATCH,
)
async def update_account(body: OwnChange, caller: Writer, request: Request) -> Response:
    """Update your account. With `If-Match`, only if it has not changed since you read it."""
    is_stale = staleness_check(request, _representation)
    services = context_of(request).runtime.services
    check_username_member(body, services.settings.login_identifier)
    accounts, given = services.accounts, body.model_fields_set
    if given:
        user = await accounts.profiles.edit(
            caller.user.id,
            body.model_dump(include=given - {"username", "profile"}),
            username=body.username if "username" in given else UNCHANGED,
            is_stale=is_stale,
            caller=caller,
            profile=profile_of(body),
        )
    else:
        # Nothing to write. Writing the values of a snapshot could revert a concurrent change.
        user = await accounts.profiles.find(caller.user.id)
        if is_stale(user):
            raise PreconditionFailed
    return _representation(user).response(cache_control=REVALIDATE)


@router.delete("", status_code=204, responses=_DISCARDED | problems(401, 409, 503))
async def delete_account(identity: FreshCaller, request: Request) -> None:
    """Delete your account and all its data. Requires a recent login."""
    context = context_of(request)
    await context.runtime.services.accounts.deletion.delete_own(identity)
    context.discard(identity)


@router.post(
    "/password",
    status_code=204,
    responses=_RENEWED | problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def change_password(
    body: PasswordChange, identity: ProvedOwner, request: Request
) -> Response:
    """Change your password. All other sessions and tokens end. A session cookie is replaced."""
    runtime = context_of(request).runtime
    renewal = renewal_of(runtime.registry, identity)
    await runtime.services.accounts.passwords.change(
        identity,
        current=body.current_password,
        new=body.new_password,
        new_secret_hash=secret_of(renewal),
    )
    return with_renewal(Response(status_code=204), renewal)


@router.post(
    "/reauthenticate",
    status_code=204,
    responses=_RENEWED | problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def reauthenticate(body: Reauthentication, identity: Owner, request: Request) -> Response:
    """Confirm your password, or prove your second factor again.

    The password makes this session count as a recent login. A code of the authenticator app, or a
    recovery code, makes it count as one that has proved two factors just now; a passkey does both.
    A session cookie is replaced. The new cookie expires when the old one would have.
    """
    runtime = context_of(request).runtime
    renewal = renewal_of(runtime.registry, identity)
    if "password" in body.model_fields_set:
        await runtime.services.accounts.authentication.reauthenticate(
            identity, body.password, new_secret_hash=secret_of(renewal)
        )
    else:
        await runtime.services.factors.step_up.prove(
            identity, **body.second_factor(), new_secret_hash=secret_of(renewal)
        )
    return with_renewal(Response(status_code=204), renewal)


@router.get("/identity", responses=problems(401, 503))
async def read_identity(identity: CurrentIdentity) -> IdentityOut:
    """Get the identity that this request was authenticated as."""
    return IdentityOut.of(identity)


def _representation(user: User) -> Representation:
    # The identity cache returns the same immutable `User` for each request of a caller. Own columns
    # are read again.
    return _represent(user) if isinstance(user, UserWithProfile) else _cached(user)


def _represent(user: User) -> Representation:
    return Representation.of(UserOut.of(user).model_dump_json(by_alias=True).encode())


_cached = lru_cache(maxsize=1024)(_represent)
