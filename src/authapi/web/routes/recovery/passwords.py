"""/password and /invitation: choose a password with what came by mail."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas import AddressOnly, InvitationAcceptance, PasswordReset

router = APIRouter(route_class=AuthAPIRoute, tags=["recovery"])


@router.post(
    "/password/forgot",
    status_code=202,
    response_class=Response,
    responses=problems(400, 408, 415, 422, 429, 503),
)
async def forgot(body: AddressOnly, request: Request) -> Response:
    """Ask for a mail to choose another password with. The answer is the same for each address."""
    await context_of(request).runtime.services.requests.ask("reset", body.email)
    return Response(status_code=202)


@router.post("/password/reset", status_code=204, responses=problems(400, 408, 415, 422, 503))
async def reset(body: PasswordReset, request: Request) -> None:
    """Choose another password. All sessions and tokens of the account end, and none begins."""
    await context_of(request).runtime.services.recovery.reset(body.token, body.new_password)


@router.post("/invitation/accept", status_code=204, responses=problems(400, 408, 415, 422, 503))
async def accept(body: InvitationAcceptance, request: Request) -> None:
    """Take over an account that was made for you. Log in afterwards."""
    recovery = context_of(request).runtime.services.recovery
    await recovery.accept(body.token, body.password, name=body.name)
