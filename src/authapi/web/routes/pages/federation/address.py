"""/account/sign-in/address: a login at a provider asks for the address that it lacks."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import EnrolmentRequired, LoginExpired, SecondFactorRequired
from authapi.services.federation.addresses import ContinuedLogin
from authapi.web.context import context_of
from authapi.web.federation.arrival import lead_with_code
from authapi.web.federation.ticket_cookie import discard_ticket, read_ticket
from authapi.web.pages import addresses
from authapi.web.pages.address_cookie import keep_address
from authapi.web.pages.rendering import EMPTY, Form, Headers, render, see_other
from authapi.web.routes.login.password import finish, issuer_of
from authapi.web.routes.pages.flow import invalid, perform, receive, typed_address
from authapi.web.routes.pages.sign_in import goes_on, signed_in
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("/sign-in/address")
async def show_address(request: Request) -> Response:
    """Show the form, if a login that needs an address is under way in this browser."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    if read_ticket(request) is None:
        return _expired(request, wanted)
    return _show(request, Form({"next": wanted or ""}))


@router.post("/sign-in/address")
async def give_address(request: Request) -> Response:
    """Go on with the address: sign in, or ask to look into the mailbox."""
    sent = await receive(request)
    wanted = addresses.wanted(request, sent.get("next"))
    ticket = read_ticket(request)
    if ticket is None:
        return _expired(request, wanted)

    async def show_again(form: Form, status: int) -> Response:
        values = {**form.values, "next": wanted or ""}
        return _show(request, Form(values, form.errors, form.problem), status)

    async def act() -> Response:
        if not sent.get("email").strip():
            raise invalid("email", "email_invalid")
        email = typed_address(request, sent)
        federation = context_of(request).runtime.services.federation
        found = await federation.addresses.give(ticket, email, request=request)
        if found is None:
            # The ticket stays: the link in the mail works together with it.
            location = addresses.page(request, "check-mail", next=wanted)
            return see_other(location, headers=keep_address(request, email.original))
        return await go_on(request, found)

    try:
        return await perform(request, sent, act, show_again, fields={"link_required": "email"})
    except LoginExpired:
        return _expired(request, wanted)


async def go_on(request: Request, found: ContinuedLogin) -> Response:
    """Returns the response to a browser whose login at a provider has its address now.

    Raises InvalidInput if the strategy is not configured any longer, InvalidCredentials if the
    account was changed meanwhile, and LoginFlowInvalid if another request has completed the login.
    """
    runtime = context_of(request).runtime
    issuer, headers = issuer_of(runtime, found.strategy), discard_ticket(request)
    if not issuer.ambient:
        codes = runtime.services.federation.codes
        code = await codes.issue(found.proved, strategy=issuer.name, remember=found.remember)
        return _with(lead_with_code(found.continue_to, code.text), headers)
    try:
        done = await finish(request, found.proved, issuer, remember=found.remember)
    except (SecondFactorRequired, EnrolmentRequired) as pending:
        return goes_on(request, pending, found.continue_to, headers=headers)
    return signed_in(request, done, found.continue_to, is_new=True)


def _with(response: Response, headers: Headers) -> Response:
    for name, value in headers:
        response.headers.append(name, value)
    return response


def _expired(request: Request, wanted: str | None) -> Response:
    location = addresses.page(request, "sign-in", done="expired", next=wanted)
    return see_other(location, headers=discard_ticket(request))


def _show(request: Request, form: Form = EMPTY, status: int = 200) -> Response:
    settings = context_of(request).runtime.services.settings
    return render(
        request,
        "address",
        status=status,
        form=form,
        confirms=settings.registration == "confirm",
    )
