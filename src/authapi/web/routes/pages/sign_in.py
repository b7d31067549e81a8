"""/account/sign-in: e-mail address and password, or user name and password."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.username import parse_login_name
from authapi.errors import InvalidCredentials, SecondFactorRequired
from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.address_cookie import forget_address, keep_address, kept_address
from authapi.web.pages.rendering import EMPTY, Form, masked, render, see_other, sentence
from authapi.web.routes.login.password import LogIn, log_in
from authapi.web.routes.pages.flow import OptionalCaller, Sent, perform, receive
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

STRATEGY = "session"
"""The strategy of all pages."""
_ARRIVED = "in"
"""The value of `done` on the way back from a form that has signed in. It shows no message."""
_ARRIVED_NEW = "up"
"""As `_ARRIVED`, for an account that was just made."""
_TRIES_BEFORE_HELP = 2
"""After so many refusals, the link to a forgotten password stands beside the password."""


@router.get("/sign-in")
async def show_sign_in(request: Request, caller: OptionalCaller) -> Response:
    """Show the form; lead on if the form was just sent, and the browser has kept the cookie."""
    done = request.query_params.get("done")
    wanted = addresses.wanted(request, request.query_params.get("next"))
    if done in (_ARRIVED, _ARRIVED_NEW):
        if caller is None:
            # The language of the mail is not known here, but the answer to the form kept its own.
            return see_other(addresses.page(request, "sign-in", done="no-cookie", next=wanted))
        welcome = _welcome(request, wanted) if done == _ARRIVED_NEW else None
        return see_other(welcome or wanted or addresses.home(request))
    if caller is not None:
        return render(request, "signed-in", email=masked(caller.user.email), next=wanted)
    return _show(request, Form({"email": kept_address(request), "next": wanted or ""}))


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Sign in, and lead to `next`, or to the second step."""
    sent = await receive(request)
    settings = context_of(request).runtime.services.settings
    wanted = addresses.wanted(request, sent.get("next"))

    async def show_again(form: Form, status: int) -> Response:
        tries = _tries(sent) + (status == 401)
        values = {**form.values, "next": wanted or "", "tries": str(tries)}
        problem = form.problem
        if status == 401 and settings.login_identifier != "email" and problem is not None:
            problem = problem.replace(
                sentence(request, InvalidCredentials.code), sentence(request, "invalid_login")
            )
        return _show(request, Form(values, form.errors, problem), status)

    async def act() -> Response:
        name = parse_login_name(
            sent.get("email").strip(),
            settings.login_identifier,
            loc=("body", "email"),
            allow_reserved=settings.allow_reserved_addresses,
        )
        try:
            done = await log_in(
                request,
                name,
                sent.get("password"),
                strategy=STRATEGY,
                remember="remember" in sent.fields,
            )
        except SecondFactorRequired as pending:
            # The cookie stands for the login that waits.
            headers = (*pending.headers, *keep_address(request, sent.get("email").strip()))
            location = addresses.page(request, "sign-in/second", next=wanted)
            return see_other(location, headers=headers)
        return signed_in(request, done, wanted)

    return await perform(request, sent, act, show_again)


def signed_in(
    request: Request, done: LogIn, wanted: str | None, *, is_new: bool = False
) -> Response:
    """Returns the response that keeps the cookie, and leads to `wanted` by way of this page.

    On the way, this page finds out whether the browser has kept the cookie.
    """
    arrived = _ARRIVED_NEW if is_new else _ARRIVED
    location = addresses.page(request, "sign-in", done=arrived, next=wanted)
    response = see_other(location, headers=forget_address(request))
    done.set_on(response)
    return response


def _welcome(request: Request, wanted: str | None) -> str | None:
    """Returns the page of a new account, which welcomes its owner, if the sign-in leads there."""
    runtime = context_of(request).runtime
    settings, own = runtime.services.settings, addresses.visible_path(request, addresses.PREFIX)
    leads_there = settings.home_url is None if wanted is None else wanted == own
    if "account" not in runtime.units or not leads_there:
        return None
    code = "welcome" if settings.sends_mail else "welcome-silently"
    return addresses.page(request, "", done=code)


def _show(request: Request, form: Form = EMPTY, status: int = 200) -> Response:
    runtime = context_of(request).runtime
    settings = runtime.services.settings
    return render(
        request,
        "sign-in",
        status=status,
        form=form,
        identifier=settings.login_identifier,
        offers_reset="pages" in runtime.units,
        offers_sign_up=settings.registration in {"open", "confirm"},
        is_stuck=_tries(Sent(form.values)) >= _TRIES_BEFORE_HELP,
        sign_up=addresses.page(request, "sign-up", next=form.values.get("next")),
        focus="password" if form.problem else "email",
    )


def _tries(sent: Sent) -> int:
    text = sent.get("tries")
    return int(text) if len(text) == 1 and text.isascii() and text.isdigit() else 0
