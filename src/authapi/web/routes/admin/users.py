"""/admin/users: list, invite, change and delete accounts."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from authapi.identity import User
from authapi.services.accounts.cursors import MAX_LENGTH as MAX_CURSOR_LENGTH
from authapi.services.email_address import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.services.email_address import canonical_prefix
from authapi.storage.tables.users import UserFilter, UserOrder
from authapi.strategies.base import read_header
from authapi.web.answers.conditional import conditional_json, etag_of, matches
from authapi.web.context import context_of
from authapi.web.openapi import problems, request_header, response_header
from authapi.web.routes.admin.gates import FreshSuperuser, Superuser, router_for
from authapi.web.schemas import AccountChange, AccountOut, AccountPage, Invitation, Role

router = router_for("/admin/users")

_REVALIDATE = "private, no-cache"
_ETAG = response_header("ETag", "For If-Match and If-None-Match.", required=True)
_CHANGED: dict[int | str, dict[str, Any]] = {200: _ETAG}
_READ: dict[int | str, dict[str, Any]] = {200: _ETAG, 304: {"description": "Unchanged", **_ETAG}}

Flag = Annotated[bool | None, Query()]


def _user_filter(
    email: Annotated[
        str | None,
        Query(
            max_length=MAX_EMAIL_LENGTH,
            pattern=r"^[^\u0000]*$",
            description="The beginning of the address, in any spelling.",
            examples=["alice@"],
        ),
    ] = None,
    active: Flag = None,
    confirmed: Flag = None,
    superuser: Flag = None,
    role: Annotated[Role | None, Query()] = None,
) -> UserFilter:
    prefix = None if email is None else canonical_prefix(email)
    return UserFilter(prefix, active, confirmed, superuser, role)


@router.get("", responses=problems(401, 403, 404, 422, 503))
async def list_users(
    superuser_: Superuser,
    request: Request,
    user_filter: Annotated[UserFilter, Depends(_user_filter)],
    sort: UserOrder = UserOrder.OLDEST,
    after: Annotated[
        str | None,
        Query(
            max_length=MAX_CURSOR_LENGTH,
            pattern="^[A-Za-z0-9_-]*$",
            description="The `next` of the previous page, with the same `sort`.",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AccountPage:
    """List accounts in pages.

    Accounts that are created or deleted between two requests do not shift the pages: each other
    account is listed once.
    """
    administration = context_of(request).runtime.services.administration
    page = await administration.page(user_filter, order=sort, after=after, limit=limit)
    return AccountPage.of(page)


@router.post(
    "", status_code=201, responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503)
)
async def invite_user(body: Invitation, superuser: FreshSuperuser, request: Request) -> AccountOut:
    """Create an account without a password, and invite its owner by mail to choose one."""
    administration = context_of(request).runtime.services.administration
    user = await administration.invite(
        body.email, name=body.name, roles=body.roles, actor=superuser
    )
    return AccountOut.of(user)


@router.get(
    "/{user_id}",
    response_model=AccountOut,
    responses=_READ | problems(401, 403, 404, 422, 503),
    openapi_extra=request_header("If-None-Match", "An ETag; 304 if it is current."),
)
async def read_user(user_id: UUID, superuser: Superuser, request: Request) -> Response:
    """Get an account. With `If-None-Match`, the response is 304 if it has not changed."""
    user = await context_of(request).runtime.services.accounts.find(user_id)
    body, etag = _representation(user)
    return conditional_json(request, body, etag=etag, cache_control=_REVALIDATE)


@router.patch(
    "/{user_id}",
    response_model=AccountOut,
    responses=_CHANGED | problems(400, 401, 403, 404, 408, 409, 412, 415, 422, 429, 503),
    openapi_extra=request_header("If-Match", "An ETag; 412 if it is out of date."),
)
async def update_user(
    user_id: UUID, body: AccountChange, superuser: FreshSuperuser, request: Request
) -> Response:
    """Update an account. All changes are applied, or none.

    You can change only the name of your own account. Deactivating an account ends its sessions and
    tokens in all processes before the response is sent. The last active superuser cannot be demoted
    or deactivated.
    """
    if_match = read_header(request, b"if-match")

    def is_stale(current: User) -> bool:
        etag = _representation(current)[1]
        return if_match is not None and not matches(if_match, etag, weak=False)

    administration = context_of(request).runtime.services.administration
    user = await administration.change(user_id, body.changes(), actor=superuser, is_stale=is_stale)
    result, etag = _representation(user)
    headers = {"etag": etag, "cache-control": _REVALIDATE}
    return Response(result, media_type="application/json", headers=headers)


@router.delete(
    "/{user_id}/sessions", status_code=204, responses=problems(401, 403, 404, 422, 429, 503)
)
async def end_user_sessions(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """End all logins of an account, and revoke its personal access tokens."""
    context = context_of(request)
    await context.runtime.services.administration.end_sessions(user_id, actor=superuser)
    if user_id == superuser.user.id:
        context.discard(superuser)


@router.post(
    "/{user_id}/invitation", status_code=204, responses=problems(401, 403, 404, 409, 422, 429, 503)
)
async def resend_invitation(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Send a new invitation for an account whose owner has not accepted the last one.

    The link of the last invitation stops working.
    """
    await context_of(request).runtime.services.administration.resend_invitation(
        user_id, actor=superuser
    )


@router.delete("/{user_id}", status_code=204, responses=problems(401, 403, 404, 409, 422, 429, 503))
async def delete_user(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Delete an account and all its data. You cannot delete your own account here."""
    await context_of(request).runtime.services.administration.delete(user_id, actor=superuser)


def _representation(user: User) -> tuple[bytes, str]:
    body = AccountOut.of(user).model_dump_json().encode()
    return body, etag_of(body)
