"""/account/forgot: asks for a mail with a link to choose a new password."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.address_cookie import keep_address, kept_address
from authapi.web.pages.rendering import EMPTY, Form, masked, render, see_other
from authapi.web.routes.pages.flow import perform, receive, typed_address
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("/forgot")
async def show_forgot(request: Request) -> Response:
    """Show the form, or that a mail is on its way."""
    address = kept_address(request)
    wanted = addresses.wanted(request, request.query_params.get("next"))
    if request.query_params.get("done") == "sent":
        return render(
            request,
            "done",
            form=Form({"next": wanted or ""}),
            is_mailed=True,
            offers_reset=False,
            sent_to=masked(address) if address else None,
            send_again=address,
        )
    return _show(request, Form({"email": address, "next": wanted or ""}))


@router.post("/forgot")
async def ask_for_reset(request: Request) -> Response:
    """Queue the mail. The response is the same for every address."""
    sent = await receive(request)
    services = context_of(request).runtime.services
    wanted = addresses.wanted(request, sent.get("next"))

    async def show_again(form: Form, status: int) -> Response:
        values = {**form.values, "next": wanted or ""}
        return _show(request, Form(values, form.errors, form.problem), status)

    async def act() -> Response:
        email = typed_address(request, sent)
        await services.accounts.deferred_requests.submit("reset", email)
        location = addresses.page(request, "forgot", done="sent", next=wanted)
        return see_other(location, headers=keep_address(request, email.original))

    return await perform(request, sent, act, show_again)


def _show(request: Request, form: Form = EMPTY, status: int = 200) -> Response:
    return render(request, "forgot", status=status, form=form)
