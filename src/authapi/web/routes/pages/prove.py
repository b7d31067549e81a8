"""/account/prove: asks a person who signed in some time ago for the password again."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.web.answers.renewals import renewal_of, secret_of, with_renewal
from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.rendering import EMPTY, Form, render, see_other
from authapi.web.routes.pages.flow import OptionalCaller, perform, receive
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("/prove")
async def show_prove(request: Request, caller: OptionalCaller) -> Response:
    """Show the form."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    if caller is None:
        return see_other(addresses.page(request, "sign-in", next=wanted))
    return _show(request, caller, Form({"next": wanted or ""}))


@router.post("/prove")
async def prove(request: Request, caller: OptionalCaller) -> Response:
    """Verify the password: the session then counts as a recent login."""
    sent = await receive(request)
    wanted = addresses.wanted(request, sent.get("next"))
    if caller is None:
        return see_other(addresses.page(request, "sign-in", done="ended", next=wanted))
    identity = caller

    async def show_again(form: Form, status: int) -> Response:
        values = {"next": wanted or ""}
        return _show(request, identity, Form(values, form.errors, form.problem), status)

    async def act() -> Response:
        runtime = context_of(request).runtime
        renewal = renewal_of(runtime.registry, identity)
        await runtime.services.accounts.authentication.reauthenticate(
            identity, sent.get("password"), new_secret_hash=secret_of(renewal)
        )
        return with_renewal(see_other(wanted or addresses.home(request)), renewal)

    return await perform(request, sent, act, show_again, fields={"wrong_password": "password"})


def _show(request: Request, caller: Identity, form: Form = EMPTY, status: int = 200) -> Response:
    return render(request, "prove", status=status, form=form, account=caller.user.email)
