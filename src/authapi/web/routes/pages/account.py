"""/account: who is signed in."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.web.pages import addresses
from authapi.web.pages.rendering import render, see_other
from authapi.web.resolver import optional_identity_if_configured
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

OptionalCaller = Annotated[Identity | None, Depends(optional_identity_if_configured("session"))]


@router.get("")
async def show_account(request: Request, caller: OptionalCaller) -> Response:
    """Show the account of the caller; lead a person who is signed out to the sign-in page."""
    if caller is None:
        here = addresses.visible_path(request)
        return see_other(addresses.sign_in(request, next=here) or "./")
    return render(request, "account", since=caller.auth_time)
