"""/account: who is signed in."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.web.pages import addresses
from authapi.web.pages.rendering import render, see_other
from authapi.web.routes.pages.flow import OptionalCaller
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)


@router.get("")
async def show_account(request: Request, caller: OptionalCaller) -> Response:
    """Show the account of the caller; lead a person who is signed out to the sign-in page."""
    if caller is None:
        here = addresses.visible_path(request)
        return see_other(addresses.sign_in(request, next=here) or "./")
    return render(request, "account", since=caller.auth_time)
