"""/account/sign-in/second: the second step of signing in, with a code."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.factors.values import FactorMethod, TicketPurpose
from authapi.errors import LoginExpired
from authapi.web.context import context_of
from authapi.web.login_cookie import discarded_cookie, read_browser_id
from authapi.web.pages import addresses
from authapi.web.pages.rendering import EMPTY, Form, render, see_other
from authapi.web.routes.login.second_factor import prove_second_factor
from authapi.web.routes.pages.codes import digits_of, recovery_code_of
from authapi.web.routes.pages.credentials import FIELD, assertion_of
from authapi.web.routes.pages.flow import Sent, perform, receive
from authapi.web.routes.pages.sign_in import signed_in
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

_STEPS = {TicketPurpose.SECOND_FACTOR: "sign-in/second", TicketPurpose.ENROL: "sign-in/enrol"}


@router.get("/sign-in/second")
async def show_second_step(request: Request) -> Response:
    """Show the form, if a login is under way in this browser."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    try:
        return await _show(request, Form({"next": wanted or ""}))
    except LoginExpired:
        return expired(request, wanted)


@router.post("/sign-in/second")
async def second_step(request: Request) -> Response:
    """Prove the second factor, and lead to `next`."""
    sent = await receive(request)
    wanted = addresses.wanted(request, sent.get("next"))

    async def show_again(form: Form, status: int) -> Response:
        values = {"next": wanted or ""}
        return await _show(request, Form(values, form.errors, form.problem), status)

    async def act() -> Response:
        if sent.get(FIELD):
            done = await prove_second_factor(request, passkey=assertion_of(sent))
        else:
            code, recovery_code = _codes(sent)
            done = await prove_second_factor(request, code=code, recovery_code=recovery_code)
        return signed_in(request, done, wanted)

    # A passkey has no field: the sentence is about the form.
    field = next((name for name in ("recovery_code", "code") if name in sent.fields), None)
    fields = {} if field is None or sent.get(FIELD) else {"second_factor_refused": field}
    try:
        return await perform(request, sent, act, show_again, fields=fields)
    except LoginExpired:
        return await overtaken(request, wanted, TicketPurpose.SECOND_FACTOR)


async def overtaken(request: Request, wanted: str | None, step: TicketPurpose) -> Response:
    """Returns the response to a form of `step` whose login is not under way any longer.

    It leads to the other step, if a later login of this browser waits for that; else as `expired`.
    """
    services = context_of(request).runtime.services
    try:
        purpose, _ = await services.logins.waiting(read_browser_id(request, services.settings))
    except LoginExpired:
        return expired(request, wanted)
    if purpose is step:
        return expired(request, wanted)
    return see_other(addresses.page(request, _STEPS[purpose], next=wanted))


def expired(request: Request, wanted: str | None) -> Response:
    """Returns the response that leads to the sign-in page: no login is under way any longer."""
    settings = context_of(request).runtime.services.settings
    location = addresses.page(request, "sign-in", done="expired", next=wanted)
    return see_other(location, headers=discarded_cookie(request, settings))


def _codes(sent: Sent) -> tuple[str | None, str | None]:
    """Returns the code of the app, or the recovery code. Raises InvalidInput.

    A text that is no code costs no attempt.
    """
    if "recovery_code" in sent.fields:
        return None, recovery_code_of(sent.get("recovery_code"))
    return digits_of(sent.get("code")), None


async def _show(request: Request, form: Form = EMPTY, status: int = 200) -> Response:
    services = context_of(request).runtime.services
    browser = read_browser_id(request, services.settings)
    purpose, methods = await services.logins.waiting(browser)
    if purpose is not TicketPurpose.SECOND_FACTOR:
        return see_other(addresses.page(request, "sign-in/enrol", next=form.values.get("next")))
    return render(
        request,
        "second-step",
        status=status,
        form=form,
        has_app=FactorMethod.TOTP in methods,
        has_codes=FactorMethod.RECOVERY in methods,
        has_passkey=FactorMethod.PASSKEY in methods
        and "login" in context_of(request).runtime.units,
    )
