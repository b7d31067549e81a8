"""/admin/users: the accounts of everybody."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from authapi.identity import User
from authapi.services.accounts.cursors import MAX_LENGTH as MAX_CURSOR_LENGTH
from authapi.services.addresses import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.services.addresses import email_prefix
from authapi.storage.tables.users import UserFilter, UserOrder
from authapi.strategies.base import header
from authapi.web.caching import cacheable_json, etag_of, matches
from authapi.web.context import context_of
from authapi.web.openapi import problems, request_header, response_header
from authapi.web.routes.admin import FreshSuperuser, Superuser, router_for
from authapi.web.schemas import AccountChange, AccountOut, AccountPage, Invitation, Role

router = router_for("/admin/users")

_REVALIDATE = "private, no-cache"
_ETAG = response_header("ETag", "For If-Match and If-None-Match.", required=True)
_CHANGED: dict[int | str, dict[str, Any]] = {200: _ETAG}
_READ: dict[int | str, dict[str, Any]] = {200: _ETAG, 304: {"description": "Unchanged", **_ETAG}}

Flag = Annotated[bool | None, Query()]


def _wanted(
    email: Annotated[
        str | None,
        Query(
            max_length=MAX_EMAIL_LENGTH,
            pattern=r"^[^\u0000]*$",
            description="What the address begins with, in any spelling.",
            examples=["alice@"],
        ),
    ] = None,
    active: Flag = None,
    confirmed: Flag = None,
    superuser: Flag = None,
    role: Annotated[Role | None, Query()] = None,
) -> UserFilter:
    prefix = None if email is None else email_prefix(email)
    return UserFilter(prefix, active, confirmed, superuser, role)


@router.get("", responses=problems(401, 403, 404, 422, 503))
async def list_users(
    superuser_: Superuser,
    request: Request,
    wanted: Annotated[UserFilter, Depends(_wanted)],
    sort: UserOrder = UserOrder.OLDEST,
    after: Annotated[
        str | None,
        Query(
            max_length=MAX_CURSOR_LENGTH,
            pattern="^[A-Za-z0-9_-]*$",
            description="`next` of the page before this one, in the same order.",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AccountPage:
    """The accounts, in pages; accounts that come and go meanwhile leave none of the others out."""
    administration = context_of(request).runtime.services.administration
    page = await administration.page(wanted, order=sort, after=after, limit=limit)
    return AccountPage.of(page)


@router.post(
    "", status_code=201, responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503)
)
async def invite(body: Invitation, superuser: FreshSuperuser, request: Request) -> AccountOut:
    """Make an account and invite its owner by mail: they choose the password, and nobody else."""
    administration = context_of(request).runtime.services.administration
    made = await administration.invite(body.email, name=body.name, roles=body.roles, by=superuser)
    return AccountOut.of(made)


@router.get(
    "/{user_id}",
    response_model=AccountOut,
    responses=_READ | problems(401, 403, 404, 422, 503),
    openapi_extra=request_header("If-None-Match", "An ETag; 304 if it is still the same."),
)
async def show(user_id: UUID, superuser: Superuser, request: Request) -> Response:
    """One account. With `If-None-Match`, 304 if it is unchanged."""
    user = await context_of(request).runtime.services.accounts.find(user_id)
    body, etag = _representation(user)
    return cacheable_json(request, body, etag=etag, cache_control=_REVALIDATE)


@router.patch(
    "/{user_id}",
    response_model=AccountOut,
    responses=_CHANGED | problems(400, 401, 403, 404, 408, 409, 412, 415, 422, 429, 503),
    openapi_extra=request_header("If-Match", "An ETag; 412 if it is not the same any more."),
)
async def change(
    user_id: UUID, body: AccountChange, superuser: FreshSuperuser, request: Request
) -> Response:
    """Change an account: all that is named, or nothing. Of my own, only the name.

    To deactivate it ends all its sessions and tokens, on every process, before this is answered.
    """
    condition = header(request, b"if-match")

    def changed_meanwhile(current: User) -> bool:
        etag = _representation(current)[1]
        return condition is not None and not matches(condition, etag, weak=False)

    administration = context_of(request).runtime.services.administration
    changed = await administration.change(
        user_id, body.changes(), by=superuser, unless=changed_meanwhile
    )
    result, etag = _representation(changed)
    headers = {"etag": etag, "cache-control": _REVALIDATE}
    return Response(result, media_type="application/json", headers=headers)


@router.delete(
    "/{user_id}/sessions", status_code=204, responses=problems(401, 403, 404, 422, 429, 503)
)
async def end_sessions(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """End every login and personal access token of an account."""
    context = context_of(request)
    await context.runtime.services.administration.end_sessions(user_id, by=superuser)
    if user_id == superuser.user.id:
        context.discard(superuser)


@router.post(
    "/{user_id}/invitation", status_code=204, responses=problems(401, 403, 404, 409, 422, 429, 503)
)
async def invite_again(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Send another invitation to who has not accepted the first; that one ends."""
    await context_of(request).runtime.services.administration.invite_again(user_id, by=superuser)


@router.delete("/{user_id}", status_code=204, responses=problems(401, 403, 404, 409, 422, 429, 503))
async def delete(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Remove an account, not my own, and everything that belongs to it."""
    await context_of(request).runtime.services.administration.delete(user_id, by=superuser)


def _representation(user: User) -> tuple[bytes, str]:
    body = AccountOut.of(user).model_dump_json().encode()
    return body, etag_of(body)
