"""/account/sign-in/enrol: a login adds the second factor that its account must have."""

from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.factors.values import FactorMethod, TicketPurpose
from authapi.errors import FactorExists, LoginExpired, NotFound
from authapi.services.logins.complete import CompletedLogin
from authapi.services.logins.enrolment import Enrolled
from authapi.web.context import context_of
from authapi.web.login_cookie import read_browser_id
from authapi.web.pages import addresses
from authapi.web.pages.account.device_names import device_name
from authapi.web.pages.account.secrets import app_values, codes_values
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import EMPTY, Form, render, see_other
from authapi.web.pages.site import site_of
from authapi.web.routes.login.second_factor import issue_completed
from authapi.web.routes.pages.codes import digits_of
from authapi.web.routes.pages.credentials import FIELD, attestation_of
from authapi.web.routes.pages.flow import Sent, perform, receive
from authapi.web.routes.pages.second_step import expired, overtaken
from authapi.web.routes.pages.sign_in import arrival
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("/sign-in/enrol")
async def show_enrolment(request: Request) -> Response:
    """Show the ways to a second step, if a login that needs one is under way in this browser."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    try:
        return await _show(request, Form({"next": wanted or ""}))
    except LoginExpired:
        return expired(request, wanted)


@router.post("/sign-in/enrol")
async def enrol(request: Request) -> Response:
    """Begin with an app, confirm it, or add a passkey; then show the recovery codes."""
    sent = await receive(request)
    wanted = addresses.wanted(request, sent.get("next"))
    is_confirmation = sent.get("action") == "confirm"

    async def show_again(form: Form, status: int) -> Response:
        again = Form({"next": wanted or ""}, form.errors, form.problem)
        if is_confirmation and status != 404:
            return render(request, "enrol-confirm", status=status, form=again)
        return await _show(request, again, status)

    async def act() -> Response:
        if sent.get(FIELD):
            return await _add_passkey(request, sent, wanted)
        if is_confirmation:
            return await _confirm_app(request, sent, wanted)
        return await _begin_app(request, wanted)

    try:
        return await perform(request, sent, act, show_again, fields={"wrong_code": "code"})
    except LoginExpired:
        return await overtaken(request, wanted, TicketPurpose.ENROL)
    except (FactorExists, NotFound):  # the key is not valid any longer
        return see_other(addresses.page(request, "sign-in/enrol", next=wanted))


async def _begin_app(request: Request, wanted: str | None) -> Response:
    services = context_of(request).runtime.services
    browser = read_browser_id(request, services.settings)
    begun = await services.login_enrolment.begin_totp(browser=browser)
    form = Form({"next": wanted or ""})
    return render(request, "enrol-app", form=form, **await app_values(begun))


async def _confirm_app(request: Request, sent: Sent, wanted: str | None) -> Response:
    services = context_of(request).runtime.services
    browser = read_browser_id(request, services.settings)
    completed, enrolled = await services.login_enrolment.confirm_totp(
        digits_of(sent.get("code")), browser=browser
    )
    return await _finish(request, completed, enrolled, wanted)


async def _add_passkey(request: Request, sent: Sent, wanted: str | None) -> Response:
    services = context_of(request).runtime.services
    name = device_name(site_of(request), language_of(request), request.headers.get("user-agent"))
    completed, enrolled = await services.login_enrolment.add_passkey(
        attestation_of(sent), name, browser=read_browser_id(request, services.settings)
    )
    return await _finish(request, completed, enrolled, wanted)


async def _finish(
    request: Request, completed: CompletedLogin, enrolled: Enrolled, wanted: str | None
) -> Response:
    done = replace(await issue_completed(request, completed), user=enrolled.user)
    codes: Sequence[str] = enrolled.recovery_codes
    settings = context_of(request).runtime.services.settings
    response = render(
        request, "enrol-codes", go_on=arrival(request, wanted), **codes_values(codes, settings)
    )
    done.set_on(response)
    return response


async def _show(request: Request, form: Form = EMPTY, status: int = 200) -> Response:
    services = context_of(request).runtime.services
    browser = read_browser_id(request, services.settings)
    purpose, methods = await services.logins.waiting(browser)
    if purpose is not TicketPurpose.ENROL:
        return see_other(addresses.page(request, "sign-in/second", next=form.values.get("next")))
    return render(
        request,
        "enrol",
        status=status,
        form=form,
        has_passkey=FactorMethod.PASSKEY in methods
        and "login" in context_of(request).runtime.units,
    )
