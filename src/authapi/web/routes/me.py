"""/me: my account, how I was recognised, and my password."""

from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.errors import PreconditionFailed
from authapi.identity import Identity, User
from authapi.strategies.base import Renewable, Renewal, header
from authapi.web.caching import cacheable_json, etag_of, matches
from authapi.web.context import Runtime, context_of
from authapi.web.openapi import problems, request_header, response_header
from authapi.web.resolver import current_identity, current_user, identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas import IdentityOut, PasswordChange, Profile, Reauthentication, UserOut

router = APIRouter(route_class=ProtectedRoute, tags=["account"], prefix="/me")

_REVALIDATE = "private, no-cache"
_ETAG = response_header("ETag", "For If-Match and If-None-Match.", required=True)
_CHANGED: dict[int | str, dict[str, Any]] = {200: _ETAG}
_READ: dict[int | str, dict[str, Any]] = {200: _ETAG, 304: {"description": "Unchanged", **_ETAG}}
_RENEWED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "The new cookie, if the request came with one.")
}
_DISCARDED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "Removes the cookie, if the request came with one.")
}
Caller = Annotated[Identity, Depends(current_identity())]
Me = Annotated[User, Depends(current_user())]
Writer = Annotated[Identity, Depends(identity_if_configured(writes="by_account"))]
Leaver = Annotated[Identity, Depends(identity_if_configured(fresh=True, writes="uncounted"))]
Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt", writes="by_session"))]


@router.get(
    "",
    response_model=UserOut,
    responses=_READ | problems(401, 503),
    openapi_extra=request_header("If-None-Match", "An ETag; 304 if it is still the same."),
)
async def read(user: Me, request: Request) -> Response:
    """My account. With `If-None-Match`, 304 if it is unchanged."""
    body, etag = _representation(user)
    return cacheable_json(request, body, etag=etag, cache_control=_REVALIDATE)


@router.patch(
    "",
    response_model=UserOut,
    responses=_CHANGED | problems(400, 401, 404, 408, 412, 415, 422, 429, 503),
    openapi_extra=request_header("If-Match", "An ETag; 412 if it is not the same any more."),
)
async def change(body: Profile, caller: Writer, request: Request) -> Response:
    """Change my account. With `If-Match`, only if it is still what I read."""
    condition = header(request, b"if-match")

    def changed_meanwhile(current: User) -> bool:
        etag = _representation(current)[1]
        return condition is not None and not matches(condition, etag, weak=False)

    accounts = context_of(request).runtime.services.accounts
    changes = body.model_dump(exclude_unset=True)
    if changes:
        changed = await accounts.edit(
            caller.user.id, changes, unless=changed_meanwhile, caller=caller
        )
    else:
        # Nothing to write: writing the name that was read before could undo somebody's change.
        changed = await accounts.find(caller.user.id)
        if changed_meanwhile(changed):
            raise PreconditionFailed
    result, etag = _representation(changed)
    headers = {"etag": etag, "cache-control": _REVALIDATE}
    return Response(result, media_type="application/json", headers=headers)


@router.delete("", status_code=204, responses=_DISCARDED | problems(401, 409, 503))
async def delete(identity: Leaver, request: Request) -> None:
    """Remove my account and everything that belongs to it. Asks for a fresh login."""
    context = context_of(request)
    await context.runtime.services.accounts.delete(identity.user.id, caller=identity)
    context.discard(identity)


@router.post(
    "/password",
    status_code=204,
    responses=_RENEWED | problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def change_password(body: PasswordChange, identity: Owner, request: Request) -> Response:
    """Change my password. All my other sessions and tokens end; a cookie gets a new value."""
    runtime = context_of(request).runtime
    renewal = _renewal(runtime, identity)
    await runtime.services.accounts.change_password(
        identity,
        current=body.current_password,
        new=body.new_password,
        renewed=renewal.secret if renewal else None,
    )
    return _renewed(renewal)


@router.post(
    "/reauthenticate",
    status_code=204,
    responses=_RENEWED | problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def reauthenticate(body: Reauthentication, identity: Owner, request: Request) -> Response:
    """Let this session count as freshly logged in.

    A cookie gets a new value, which the browser keeps for as long as it would have kept the old.
    """
    runtime = context_of(request).runtime
    renewal = _renewal(runtime, identity)
    await runtime.services.accounts.reauthenticate(
        identity, body.password, renewed=renewal.secret if renewal else None
    )
    return _renewed(renewal)


@router.get("/identity", responses=problems(401, 503))
async def identity(caller: Caller) -> IdentityOut:
    """How this request was authenticated."""
    return IdentityOut.of(caller)


def _renewal(runtime: Runtime, identity: Identity) -> Renewal | None:
    strategy = runtime.registry[identity.strategy]
    return strategy.renew(identity) if isinstance(strategy, Renewable) else None


def _renewed(renewal: Renewal | None) -> Response:
    response = Response(status_code=204)
    for name, value in renewal.headers if renewal else ():
        response.headers.append(name, value)
    return response


@lru_cache(maxsize=1024)
def _representation(user: User) -> tuple[bytes, str]:
    # A known caller is the same frozen value each time, so it is written out once.
    body = UserOut.of(user).model_dump_json().encode()
    return body, etag_of(body)
