"""/account/sign-in: e-mail address and password, or user name and password."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.crypto import base64url
from authapi.domain.username import parse_login_name
from authapi.errors import (
    EnrolmentRequired,
    InvalidCredentials,
    InvalidInput,
    PasskeyRefused,
    SecondFactorRequired,
)
from authapi.services.factors.webauthn.relying_party import is_available, relying_party_of
from authapi.web.context import context_of
from authapi.web.federation.flows import FlowStart
from authapi.web.pages import addresses
from authapi.web.pages.account.providers import provider_buttons
from authapi.web.pages.address_cookie import forget_address, keep_address, kept_address
from authapi.web.pages.rendering import EMPTY, Form, Headers, masked, render, see_other, sentence
from authapi.web.routes.federation.going import lead_to_login
from authapi.web.routes.login.passkey import prove_passkey
from authapi.web.routes.login.password import LogIn, log_in
from authapi.web.routes.pages.credentials import FIELD, assertion_of
from authapi.web.routes.pages.flow import OptionalCaller, Sent, perform, receive, typed_address
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
    """Sign in, and lead to `next`, to the second step, or to the provider of a button."""
    sent = await receive(request)
    settings = context_of(request).runtime.services.settings
    wanted = addresses.wanted(request, sent.get("next"))

    unknown = list[str]()

    async def show_again(form: Form, status: int) -> Response:
        tries = _tries(sent) + (status == 401)
        values = {**form.values, "next": wanted or "", "tries": str(tries)}
        problem = form.problem
        if status == 401 and settings.login_identifier != "email" and problem is not None:
            problem = problem.replace(
                sentence(request, InvalidCredentials.code), sentence(request, "invalid_login")
            )
        return _show(request, Form(values, form.errors, problem), status, unknown=unknown)

    async def act_by_passkey() -> Response:
        passkey, remember = assertion_of(sent), "remember" in sent.fields
        try:
            done = await prove_passkey(request, passkey, strategy=STRATEGY, remember=remember)
        except PasskeyRefused as refusal:
            if refusal.is_unknown:
                unknown.append(base64url.encode(passkey.credential_id))
            raise
        return signed_in(request, done, wanted)

    async def act_by_provider() -> Response:
        start = FlowStart(
            sent.get("provider"),
            STRATEGY,
            remember="remember" in sent.fields,
            continue_to=wanted,
        )
        return await lead_to_login(request, start, hint=_typed_hint(request, sent))

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
        except (SecondFactorRequired, EnrolmentRequired) as pending:
            kept = keep_address(request, sent.get("email").strip())
            return goes_on(request, pending, wanted, headers=kept)
        return signed_in(request, done, wanted)

    if sent.get("provider"):
        return await perform(request, sent, act_by_provider, show_again)
    by_passkey = bool(sent.get(FIELD))
    return await perform(request, sent, act_by_passkey if by_passkey else act, show_again)


def goes_on(
    request: Request,
    pending: SecondFactorRequired | EnrolmentRequired,
    wanted: str | None,
    *,
    headers: Headers = (),
) -> Response:
    """Returns the response that leads to the second step of a login, and on to `wanted`."""
    step = "second" if isinstance(pending, SecondFactorRequired) else "enrol"
    location = addresses.page(request, f"sign-in/{step}", next=wanted)
    # The cookie stands for the login that waits.
    return see_other(location, headers=(*pending.headers, *headers))


def offers_passkeys(request: Request) -> bool:
    """Whether a passkey can sign in on a page: its script gets the options from the API."""
    runtime = context_of(request).runtime
    settings = runtime.services.settings
    return "login" in runtime.units and settings.passkeys == "on" and is_available(settings)


def signed_in(
    request: Request, done: LogIn, wanted: str | None, *, is_new: bool = False
) -> Response:
    """Returns the response that keeps the cookie, and leads to `wanted` by way of this page."""
    location = arrival(request, wanted, is_new=is_new)
    response = see_other(location, headers=forget_address(request))
    done.set_on(response)
    return response


def arrival(request: Request, wanted: str | None, *, is_new: bool = False) -> str:
    """Returns the address of this page that leads on to `wanted` after a login.

    On the way, this page finds out whether the browser has kept the cookie.
    """
    arrived = _ARRIVED_NEW if is_new else _ARRIVED
    return addresses.page(request, "sign-in", done=arrived, next=wanted)


def _welcome(request: Request, wanted: str | None) -> str | None:
    """Returns the page of a new account, which welcomes its owner, if the sign-in leads there."""
    runtime = context_of(request).runtime
    settings, own = runtime.services.settings, addresses.visible_path(request, addresses.PREFIX)
    leads_there = settings.home_url is None if wanted is None else wanted == own
    if "account" not in runtime.units or not leads_there:
        return None
    code = "welcome" if settings.sends_mail else "welcome-silently"
    return addresses.page(request, "", done=code)


def _show(
    request: Request, form: Form = EMPTY, status: int = 200, *, unknown: Sequence[str] = ()
) -> Response:
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
        forgot=addresses.page(request, "forgot", next=form.values.get("next")),
        sign_up=addresses.page(request, "sign-up", next=form.values.get("next")),
        focus="password" if form.problem else "email",
        has_passkeys=offers_passkeys(request),
        providers=provider_buttons(request, addresses.wanted(request, form.values.get("next"))),
        # The script has the browser forget a passkey that no account has.
        unknown=[{"id": it, "rp": relying_party_of(settings).id} for it in unknown],
    )


def _typed_hint(request: Request, sent: Sent) -> str | None:
    """Returns the address in the form, for the form of a provider; None if it is none."""
    try:
        return typed_address(request, sent).original
    except InvalidInput:
        return None


def _tries(sent: Sent) -> int:
    text = sent.get("tries")
    return int(text) if len(text) == 1 and text.isascii() and text.isdigit() else 0
