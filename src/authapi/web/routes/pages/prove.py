"""/account/prove: asks a person who signed in some time ago for what the login lacks."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.federation.flow import FlowIntent
from authapi.web.pages import addresses
from authapi.web.pages.account.providers import linked_to, proving
from authapi.web.pages.rendering import EMPTY, Form, see_other
from authapi.web.routes.federation.going import lead_to_provider
from authapi.web.routes.pages.account.caller import Caller
from authapi.web.routes.pages.account.passkeys import offers_passkeys
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, needs_of, prove, prove_passkey
from authapi.web.routes.pages.credentials import FIELD, assertion_of
from authapi.web.routes.pages.flow import OptionalCaller, perform, receive
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("/prove")
async def show_prove(request: Request, identity: OptionalCaller) -> Response:
    """Show the form, or lead on if nothing is missing."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    if identity is None:
        return see_other(addresses.page(request, "sign-in", next=wanted))
    caller = Caller(request, identity)
    if not needs_of(caller).is_any:
        return see_other(wanted or addresses.home(request))
    return await _show(caller, Form({"next": wanted or ""}))


@router.post("/prove")
async def prove_again(request: Request, identity: OptionalCaller) -> Response:
    """Verify the password, a code or a passkey: the session then counts as a recent login."""
    sent = await receive(request)
    wanted = addresses.wanted(request, sent.get("next"))
    if identity is None:
        return see_other(addresses.page(request, "sign-in", done="ended", next=wanted))
    caller = Caller(request, identity)

    async def show_again(form: Form, status: int) -> Response:
        return await _show(caller, Form({"next": wanted or ""}, form.errors, form.problem), status)

    async def act() -> Response:
        if sent.get("provider"):
            return await lead_to_provider(
                request, identity, sent.get("provider"), FlowIntent.STEP_UP, wanted
            )
        if sent.get(FIELD):
            await prove_passkey(caller, assertion_of(sent))
        else:
            await prove(caller, sent)
        return see_other(wanted or addresses.home(request))

    return await perform(request, sent, act, show_again, fields=PROOF_FIELDS)


async def _show(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    user, services = caller.identity.user, caller.services
    state = await services.accounts.passwords.state(user.id)
    factors = await services.factors.changes.overview(user)
    linked = await linked_to(caller.runtime, user.id)
    return caller.render(
        "prove",
        status=status,
        form=form,
        account=user.email,
        needs=needs_of(caller),
        has_password=state.is_set,
        has_passkey=bool(factors.passkeys) and offers_passkeys(caller.runtime),
        providers=proving(caller.runtime, linked),
    )
