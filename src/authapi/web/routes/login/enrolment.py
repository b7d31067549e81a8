"""/login/enrolment: a login adds the second factor that its account must have."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.services.logins.complete import CompletedLogin
from authapi.services.logins.enrolment import Enrolled
from authapi.strategies.base import read_header
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.answers.qr_codes import qr_svg
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.login_cookie import waiting_browser
from authapi.web.routes.login.password import login_response
from authapi.web.routes.login.second_factor import issue_completed
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.factors.enrolment import EnrolmentOut
from authapi.web.schemas.factors.passkeys import CreationOptionsOut, FirstPasskey
from authapi.web.schemas.login import EnrolledLoginOut, LoginConfirmation, LoginEnrolment

router = APIRouter(route_class=AuthAPIRoute, tags=["login"], prefix="/login/enrolment")

_COOKIE: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "The session cookie, with the strategy `session`.")
}


@router.post(
    "/totp", status_code=201, responses=problems(400, 401, 403, 408, 409, 415, 422, 429, 503)
)
async def enrol_totp_at_login(body: LoginEnrolment, request: Request) -> EnrolmentOut:
    """Begin to add an authenticator app, to complete a login.

    The login is the one that was answered with `enrolment_required`: send its `ticket`, or the
    cookie that came with that answer. The response has the secret of the app, which is not shown
    again. Where mail is sent, the address of the account must be confirmed.
    """
    check_origin(request)
    services = context_of(request).runtime.services
    begun = await services.login_enrolment.begin_totp(
        ticket=body.ticket, browser=waiting_browser(request, services.settings, body.ticket)
    )
    return EnrolmentOut.of(begun, await qr_svg(begun.uri))


@router.post(
    "/totp/confirm",
    response_model=EnrolledLoginOut,
    responses=_COOKIE | problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
)
async def confirm_totp_at_login(body: LoginConfirmation, request: Request) -> Response:
    """Confirm the new authenticator app with a code that it shows, and complete the login.

    The response is that of a login, with the recovery codes of the account. A login allows five
    codes. All other logins of the account end; personal access tokens stay.
    """
    check_origin(request)
    services = context_of(request).runtime.services
    found, enrolled = await services.login_enrolment.confirm_totp(
        body.code,
        ticket=body.ticket,
        browser=waiting_browser(request, services.settings, body.ticket),
    )
    return await _issue(request, found, enrolled)


@router.post("/passkey/options", responses=problems(400, 401, 403, 408, 409, 415, 422, 429, 503))
async def creation_options_at_login(body: LoginEnrolment, request: Request) -> CreationOptionsOut:
    """Get the options for `navigator.credentials.create()`, to complete a login with a passkey.

    The login is the one that was answered with `enrolment_required`, with `passkey` among its
    `methods`. The answer is valid for this login, once, for five minutes.
    """
    check_origin(request)
    services = context_of(request).runtime.services
    options = await services.login_enrolment.passkey_options(
        ticket=body.ticket,
        browser=waiting_browser(request, services.settings, body.ticket),
        origin=read_header(request, b"origin"),
    )
    return CreationOptionsOut.of(options)


@router.post(
    "/passkey",
    response_model=EnrolledLoginOut,
    responses=_COOKIE | problems(400, 401, 403, 408, 409, 415, 422, 503),
)
async def add_passkey_at_login(body: FirstPasskey, request: Request) -> Response:
    """Add the passkey that an authenticator has created, and complete the login.

    The response is that of a login, with the recovery codes of the account. A login allows five
    attempts. All other logins of the account end; personal access tokens stay.
    """
    check_origin(request)
    services = context_of(request).runtime.services
    found, enrolled = await services.login_enrolment.add_passkey(
        body.credential.attestation(),
        body.name,
        ticket=body.ticket,
        browser=waiting_browser(request, services.settings, body.ticket),
    )
    return await _issue(request, found, enrolled)


async def _issue(request: Request, found: CompletedLogin, enrolled: Enrolled) -> Response:
    done = await issue_completed(request, found)
    # The account has its factor since the session began.
    done = replace(done, user=enrolled.user)
    return login_response(done, recovery_codes=list(enrolled.recovery_codes))
