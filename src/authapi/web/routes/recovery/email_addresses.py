"""/email and /me/email: confirm, change, and revert the change of an e-mail address."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured, optional_identity_if_configured
from authapi.web.routing import AuthAPIRoute, ProtectedRoute
from authapi.web.schemas.recovery import (
    EmailChange,
    EmailChangeReversal,
    EmailConfirmation,
    MailRequest,
)

router = APIRouter(route_class=AuthAPIRoute, tags=["recovery"])
protected = APIRouter(route_class=ProtectedRoute, tags=["recovery"])

OptionalCaller = Annotated[
    Identity | None, Depends(optional_identity_if_configured("session", "jwt"))
]
Owner = Annotated[
    Identity, Depends(identity_if_configured("session", "jwt", mfa="enrolled", writes="by_account"))
]


@router.post(
    "/email/confirm",
    status_code=204,
    responses=problems(400, 401, 403, 408, 409, 415, 422, 429, 503),
)
async def confirm_email(body: EmailConfirmation, caller: OptionalCaller, request: Request) -> None:
    """Confirm the address of an account, or its new address, with the token from a mail.

    You must be logged in to the account, or send its password. Otherwise send the address: then a
    first address is confirmed, the name and password of the account are removed, its sessions and
    tokens end, and you receive a mail to choose a password. A new address cannot be confirmed in
    this way.
    """
    email_changes = context_of(request).runtime.services.accounts.email_changes
    await email_changes.confirm_email(
        body.token, password=body.password, caller=caller, entered_email=body.email
    )


@router.post(
    "/email/confirm/request",
    status_code=202,
    response_class=Response,
    responses=problems(400, 408, 415, 422, 429, 503),
)
async def request_confirmation(body: MailRequest, request: Request) -> Response:
    """Request another mail with a link to confirm an address.

    The response does not reveal whether the address has an account.
    """
    await context_of(request).runtime.services.accounts.deferred_requests.submit(
        "confirm", body.email
    )
    return Response(status_code=202)


@router.post("/email/undo", status_code=204, responses=problems(400, 408, 409, 415, 422, 429, 503))
async def revert_email_change(body: EmailChangeReversal, request: Request) -> None:
    """Restore the previous address of an account, with the token from the mail to that address.

    All sessions and tokens of the account end, and its password is removed. You receive a mail at
    the previous address to choose a new password.
    """
    await context_of(request).runtime.services.accounts.email_changes.revert_email_change(
        body.token, entered_email=body.email
    )


@protected.post(
    "/me/email",
    status_code=202,
    response_class=Response,
    responses=problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def request_email_change(body: EmailChange, identity: Owner, request: Request) -> Response:
    """Request a change of your address.

    It takes effect when you confirm the new address with the token from the mail sent there.
    Requires the password or a recent login. The response does not reveal whether another account
    has the address.
    """
    email_changes = context_of(request).runtime.services.accounts.email_changes
    await email_changes.request_email_change(identity, body.email, password=body.current_password)
    return Response(status_code=202)


router.routes.extend(protected.routes)
