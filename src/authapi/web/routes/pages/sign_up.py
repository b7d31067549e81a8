"""/account/sign-up, and /account/check-mail, where it leads if the address must be confirmed."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.email_address import EmailAddress
from authapi.domain.username import Username, parse_username
from authapi.errors import (
    EmailTaken,
    EnrolmentRequired,
    Refusal,
    SecondFactorRequired,
    Unavailable,
)
from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.account.providers import provider_buttons
from authapi.web.pages.address_cookie import keep_address, kept_address
from authapi.web.pages.names import optional_name
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import EMPTY, Form, masked, render, see_other
from authapi.web.routes.login.password import log_in
from authapi.web.routes.pages.flow import Sent, invalid, perform, receive, typed_address
from authapi.web.routes.pages.sign_in import STRATEGY, goes_on, signed_in
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("/sign-up")
async def show_sign_up(request: Request) -> Response:
    """Show the form, or that accounts are made by invitation."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    if not _is_open(request):
        return _show_closed(request, wanted)
    return _show(request, Form({"next": wanted or ""}))


@router.post("/sign-up")
async def sign_up(request: Request) -> Response:
    """Create an account, and sign in; or ask to look into the mailbox."""
    sent = await receive(request)
    wanted = addresses.wanted(request, sent.get("next"))
    if not _is_open(request):
        return _show_closed(request, wanted)
    services = context_of(request).runtime.services

    async def show_again(form: Form, status: int) -> Response:
        values = {**form.values, "next": wanted or ""}
        return _show(request, Form(values, form.errors, form.problem), status)

    async def act() -> Response:
        email, username = typed_address(request, sent), _username(request, sent)
        offered = language_of(request)
        try:
            user = await services.accounts.registration.register(
                email,
                sent.get("password"),
                name=optional_name(sent.get("name")),
                username=username,
                locale=offered if offered in services.settings.locales else None,
                request=request,
            )
        except EmailTaken:
            raise invalid("email", "email_in_use") from None
        if user is None:
            location = addresses.page(request, "check-mail", next=wanted)
            return see_other(location, headers=keep_address(request, email.original))
        return await _sign_in(request, sent, username or email, wanted)

    return await perform(request, sent, act, show_again, fields={"username_taken": "username"})


@router.get("/check-mail")
async def show_check_mail(request: Request) -> Response:
    """Say that a mail is on its way, if the address can have an account."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    return _show_check_mail(request, wanted)


@router.post("/check-mail")
async def send_again(request: Request) -> Response:
    """Send the mail again. The response is the same for every address."""
    sent = await receive(request)
    services = context_of(request).runtime.services
    wanted = addresses.wanted(request, sent.get("next"))

    async def show_again(form: Form, status: int) -> Response:
        return _show_check_mail(request, wanted, form, status)

    async def act() -> Response:
        email = typed_address(request, sent)
        await services.accounts.deferred_requests.submit("confirm", email)
        location = addresses.page(request, "check-mail", done="sent-again", next=wanted)
        return see_other(location, headers=keep_address(request, email.original))

    return await perform(request, sent, act, show_again)


async def _sign_in(
    request: Request, sent: Sent, name: EmailAddress | Username, wanted: str | None
) -> Response:
    """Signs in to the account that was just made, as the page for that does."""
    kept = keep_address(request, sent.get("email").strip())
    try:
        done = await log_in(request, name, sent.get("password"), strategy=STRATEGY)
    except (SecondFactorRequired, EnrolmentRequired) as pending:
        return goes_on(request, pending, wanted, headers=kept)
    except (Refusal, Unavailable):
        # The account exists, so the form must not be sent again.
        location = addresses.page(request, "sign-in", done="created", next=wanted)
        return see_other(location, headers=kept)
    return signed_in(request, done, wanted, is_new=True)


def _is_open(request: Request) -> bool:
    settings = context_of(request).runtime.services.settings
    return settings.registration in {"open", "confirm"}


def _username(request: Request, sent: Sent) -> Username | None:
    text = sent.get("username").strip()
    if context_of(request).runtime.services.settings.login_identifier == "email" or not text:
        return None
    return parse_username(text)


def _show(request: Request, form: Form = EMPTY, status: int = 200) -> Response:
    settings = context_of(request).runtime.services.settings
    return render(
        request,
        "sign-up",
        status=status,
        form=form,
        identifier=settings.login_identifier,
        providers=provider_buttons(request, addresses.wanted(request, form.values.get("next"))),
    )


def _show_closed(request: Request, wanted: str | None) -> Response:
    return render(request, "sign-up-closed", status=403, form=Form({"next": wanted or ""}))


def _show_check_mail(
    request: Request, wanted: str | None, form: Form = EMPTY, status: int = 200
) -> Response:
    address = kept_address(request)
    values = {"email": address, **form.values, "next": wanted or ""}
    return render(
        request,
        "check-mail",
        status=status,
        form=Form(values, form.errors, form.problem),
        sent_to=masked(address) if address else None,
        address=address,
        sign_up=addresses.page(request, "sign-up", next=wanted),
    )
