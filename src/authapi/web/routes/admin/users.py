"""/admin/users: list, invite, change and delete accounts."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from authapi.domain.email_address import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.domain.email_address import canonical_prefix
from authapi.domain.user import User, UserFilter, UserOrder
from authapi.domain.username import MAX_LENGTH as MAX_USERNAME_LENGTH
from authapi.domain.username import canonical_username_prefix
from authapi.services.cursors import MAX_LENGTH as MAX_CURSOR_LENGTH
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
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.own_columns import profile_of
from authapi.web.routes.admin.gates import FreshSuperuser, Superuser, router_for
from authapi.web.schemas.administration import (
    AccountChange,
    AccountOut,
    AccountPage,
    Invitation,
    Role,
)
from authapi.web.schemas.fields import check_username_member

router = router_for("/admin/users")

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
    username: Annotated[
        str | None,
        Query(
            max_length=MAX_USERNAME_LENGTH,
            pattern=r"^[^\u0000]*$",
            description="The beginning of the user name, in any case.",
            examples=["ali"],
        ),
    ] = None,
    active: Flag = None,
    confirmed: Flag = None,
    superuser: Flag = None,
    role: Annotated[Role | None, Query()] = None,
) -> UserFilter:
    prefix = None if email is None else canonical_prefix(email)
    name = None if username is None else canonical_username_prefix(username)
    return UserFilter(prefix, active, confirmed, superuser, role, username_prefix=name)


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
    administration = context_of(request).runtime.services.accounts.administration
    page = await administration.page(user_filter, order=sort, after=after, limit=limit)
    return AccountPage.of(page)


@router.post(
    "", status_code=201, responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503)
)
async def invite_user(body: Invitation, superuser: FreshSuperuser, request: Request) -> AccountOut:
    """Create an account without a password, and invite its owner by mail to choose one."""
    services = context_of(request).runtime.services
    check_username_member(body, services.settings.login_identifier)
    user = await services.accounts.administration.invite(
        body.email,
        name=body.name,
        username=body.username,
        roles=body.roles,
        actor=superuser,
        profile=profile_of(body),
    )
    return AccountOut.of(user)


@router.get(
    "/{user_id}",
    response_model=AccountOut,
    responses=READ_RESPONSES | problems(401, 403, 404, 422, 503),
    openapi_extra=IF_NONE_MATCH,
)
async def read_user(user_id: UUID, superuser: Superuser, request: Request) -> Response:
    """Get an account. With `If-None-Match`, the response is 304 if it has not changed."""
    user = await context_of(request).runtime.services.accounts.profiles.find(user_id)
    return conditional_response(request, _representation(user), cache_control=REVALIDATE)


@router.patch(
    "/{user_id}",
    response_model=AccountOut,
    responses=CHANGE_RESPONSES | problems(400, 401, 403, 404, 408, 409, 412, 415, 422, 429, 503),
    openapi_extra=IF_MATCH,
)
async def update_user(
    user_id: UUID, body: AccountChange, superuser: FreshSuperuser, request: Request
) -> Response:
    """Update an account. All changes are applied, or none.

    You can change only the names of your own account. Deactivating an account ends its sessions and
    tokens in all processes before the response is sent. The last active superuser cannot be demoted
    or deactivated.
    """
    is_stale = staleness_check(request, _representation)
    services = context_of(request).runtime.services
    check_username_member(body, services.settings.login_identifier)
    user = await services.accounts.administration.change(
        user_id, body.changes(), actor=superuser, is_stale=is_stale, profile=profile_of(body)
    )
    return _representation(user).response(cache_control=REVALIDATE)


@router.delete(
    "/{user_id}/sessions", status_code=204, responses=problems(401, 403, 404, 422, 429, 503)
)
async def end_user_sessions(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """End all logins of an account, and revoke its personal access tokens."""
    context = context_of(request)
    await context.runtime.services.accounts.administration.end_sessions(user_id, actor=superuser)
    if user_id == superuser.user.id:
        context.discard(superuser)


@router.post(
    "/{user_id}/invitation", status_code=204, responses=problems(401, 403, 404, 409, 422, 429, 503)
)
async def resend_invitation(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Send a new invitation for an account whose owner has not accepted the last one.

    The link of the last invitation stops working.
    """
    await context_of(request).runtime.services.accounts.administration.resend_invitation(
        user_id, actor=superuser
    )


@router.post(
    "/{user_id}/reset-link", status_code=204, responses=problems(401, 403, 404, 409, 422, 429, 503)
)
async def send_reset_link(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Send the owner of an account a link to choose a new password.

    Only the mail has the link. The password and the logins of the account stay until the owner uses
    it. A deactivated account gets none. You cannot do this for your own account here.
    """
    await context_of(request).runtime.services.accounts.administration.send_reset_link(
        user_id, actor=superuser
    )


@router.delete("/{user_id}", status_code=204, responses=problems(401, 403, 404, 409, 422, 429, 503))
async def delete_user(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Delete an account and all its data. You cannot delete your own account here."""
    await context_of(request).runtime.services.accounts.deletion.delete(user_id, actor=superuser)


def _representation(user: User) -> Representation:
    return Representation.of(AccountOut.of(user).model_dump_json(by_alias=True).encode())
