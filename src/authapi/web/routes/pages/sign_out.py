"""/account/sign-out: ends the session of this browser."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.strategies.base import Revocable
from authapi.web.context import context_of
from authapi.web.login_cookie import discarded_cookie
from authapi.web.pages import addresses
from authapi.web.pages.reader import PARAMETER, kept_language
from authapi.web.pages.rendering import render, see_other
from authapi.web.routes.login.password import abandon_login
from authapi.web.routes.pages.flow import OptionalCaller, receive
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("/sign-out")
async def show_sign_out(request: Request, caller: OptionalCaller) -> Response:
    """Ask whether to sign out."""
    if caller is None:
        return see_other(addresses.page(request, "sign-in"))
    return render(request, "sign-out", email=caller.user.email)


@router.post("/sign-out")
async def sign_out(request: Request, caller: OptionalCaller) -> Response:
    """End the session, and a login that waits for its second step in this browser."""
    sent = await receive(request)
    runtime = context_of(request).runtime
    await abandon_login(request)
    headers = [*discarded_cookie(request, runtime.services.settings)]
    if caller is not None:
        strategy = runtime.registry[caller.strategy]
        if not isinstance(strategy, Revocable):  # the strategy is the session
            raise TypeError(f"{caller.strategy} cannot log out")
        headers += await strategy.revoke(caller)
    wanted = addresses.wanted(request, sent.get("next"))
    done = None if sent.get("switch") else "signed-out"
    # `Clear-Site-Data` deletes the cookie of the language too, so the address sets it again.
    language = {PARAMETER: kept_language(request)}
    location = addresses.page(request, "sign-in", done=done, next=wanted, **language)
    return see_other(location, headers=headers)
