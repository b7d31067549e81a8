"""/email and /me/email: confirm an address, change it, and change it back."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.identity import Identity
from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.resolver import identity_if_any, identity_if_configured
from authapi.web.routing import AuthAPIRoute, ProtectedRoute
from authapi.web.schemas import AddressOnly, EmailChange, EmailConfirmation, EmailUndo

router = APIRouter(route_class=AuthAPIRoute, tags=["recovery"])
protected = APIRouter(route_class=ProtectedRoute, tags=["recovery"])

Reader = Annotated[Identity | None, Depends(identity_if_any("session", "jwt"))]
Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt", writes="by_account"))]


@router.post(
    "/email/confirm",
    status_code=204,
    responses=problems(400, 401, 403, 408, 409, 415, 422, 429, 503),
)
async def confirm(body: EmailConfirmation, caller: Reader, request: Request) -> None:
    """Confirm the address of an account, or the one that it is to have.

    Show that the account is yours: be logged in to it, or send its password. Without either, send
    its address: a first address is confirmed, the account loses what was in it, and you get a mail
    to choose a password with.
    """
    emails = context_of(request).runtime.services.emails
    await emails.confirm(body.token, password=body.password, caller=caller, typed=body.email)


@router.post(
    "/email/confirm/request",
    status_code=202,
    response_class=Response,
    responses=problems(400, 408, 415, 422, 429, 503),
)
async def request_confirmation(body: AddressOnly, request: Request) -> Response:
    """Ask for another mail to confirm an address with. The answer is the same for each address."""
    await context_of(request).runtime.services.requests.ask("confirm", body.email)
    return Response(status_code=202)


@router.post("/email/undo", status_code=204, responses=problems(400, 408, 409, 415, 422, 429, 503))
async def undo(body: EmailUndo, request: Request) -> None:
    """Give an account its old address back, which its owner types.

    All its sessions and tokens end, its password does not work any more, and a mail to the old
    address lets you choose another.
    """
    await context_of(request).runtime.services.emails.undo(body.token, typed=body.email)


@protected.post(
    "/me/email",
    status_code=202,
    response_class=Response,
    responses=problems(400, 401, 403, 404, 408, 415, 422, 429, 503),
)
async def change(body: EmailChange, identity: Owner, request: Request) -> Response:
    """Ask for another address. It takes effect when the mail to that address is confirmed.

    Needs the password or a fresh login. The answer is the same for an address that is taken.
    """
    emails = context_of(request).runtime.services.emails
    await emails.request_change(identity, body.email, password=body.current_password)
    return Response(status_code=202)


router.routes.extend(protected.routes)
