"""/password and /invitation: choose a password with a token from a mail."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.recovery import MailRequest, PasswordReset
from authapi.web.schemas.registration import InvitationAcceptance

router = APIRouter(route_class=AuthAPIRoute, tags=["recovery"])


@router.post(
    "/password/forgot",
    status_code=202,
    response_class=Response,
    responses=problems(400, 408, 415, 422, 429, 503),
)
async def forgot_password(body: MailRequest, request: Request) -> Response:
    """Request a mail with a link to choose a new password.

    The response does not reveal whether the address has an account.
    """
    await context_of(request).runtime.services.accounts.deferred_requests.submit(
        "reset", body.email
    )
    return Response(status_code=202)


@router.post("/password/reset", status_code=204, responses=problems(400, 408, 415, 422, 503))
async def reset_password(body: PasswordReset, request: Request) -> None:
    """Choose a new password with the token from a mail.

    All sessions and tokens of the account end. The request does not log you in.
    """
    await context_of(request).runtime.services.accounts.passwords.reset(
        body.token, body.new_password
    )


@router.post("/invitation/accept", status_code=204, responses=problems(400, 408, 415, 422, 503))
async def accept_invitation(body: InvitationAcceptance, request: Request) -> None:
    """Accept an invitation: choose the password of the account. The request does not log you in."""
    invitations = context_of(request).runtime.services.accounts.invitations
    await invitations.accept(body.token, body.password, name=body.name)
