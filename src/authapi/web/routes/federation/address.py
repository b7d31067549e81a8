"""POST /login/with/address: a login at a provider gets the address that it lacks."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import LoginExpired
from authapi.services.federation.addresses import ContinuedLogin
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.federation.ticket_cookie import discard_ticket, read_ticket
from authapi.web.routes.login.password import finish, issuer_of, login_response
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.federation.flows import LoginAddress, LoginAddressConfirmation
from authapi.web.schemas.login import LoginOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

_COOKIE: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "The session cookie, with the strategy `session`.")
}
_MAILED: dict[int | str, dict[str, Any]] = {
    202: {"description": "A mail goes to the address. Its link confirms it."}
}


@router.post(
    "/login/with/address",
    response_model=LoginOut,
    responses=_COOKIE | _MAILED | problems(400, 401, 403, 408, 409, 415, 422, 429, 503),
)
async def give_address(body: LoginAddress, request: Request) -> Response:
    """Enter the address that a login at a provider lacks.

    The login is the one that was answered with `email_needed`: send its `ticket`, or the cookie
    that came with that answer. With open registration, the account is created and logged in, as
    `POST /login` answers. Where an address must be confirmed, the response is 202 whether or not it
    has an account, and the ticket still works: send it with the token of the mail to
    `POST /login/with/address/confirm`.
    """
    check_origin(request)
    addresses = context_of(request).runtime.services.federation.addresses
    found = await addresses.give(_ticket(request, body.ticket), body.email, request=request)
    return Response(status_code=202) if found is None else await _log_in(request, found)


@router.post(
    "/login/with/address/confirm",
    response_model=LoginOut,
    responses=_COOKIE | problems(400, 401, 403, 408, 409, 415, 422, 503),
)
async def confirm_address(body: LoginAddressConfirmation, request: Request) -> Response:
    """Complete a login at a provider with the token from the mail to its address.

    The ticket proves who the person at the provider is, and the token that they read the mail. An
    account that has not confirmed the address before is transferred to them. The response is that
    of `POST /login`.
    """
    check_origin(request)
    addresses = context_of(request).runtime.services.federation.addresses
    ticket = _ticket(request, body.ticket)
    return await _log_in(request, await addresses.confirm(ticket, body.token, request=request))


def _ticket(request: Request, sent: str | None) -> str:
    """Returns the ticket of the body, or of the cookie. Raises LoginExpired without one."""
    ticket = read_ticket(request) if sent is None else sent
    if ticket is None:
        raise LoginExpired
    return ticket


async def _log_in(request: Request, found: ContinuedLogin) -> Response:
    context = context_of(request)
    # Also if a second factor is due now: the ticket has been used.
    context.discards += discard_ticket(request)
    issuer = issuer_of(context.runtime, found.strategy)
    return login_response(await finish(request, found.proved, issuer, remember=found.remember))
