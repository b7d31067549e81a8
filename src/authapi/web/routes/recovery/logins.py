"""/login/disown: end a login with a token from a mail."""

from fastapi import APIRouter, Request

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.recovery import LoginDisowning

router = APIRouter(route_class=AuthAPIRoute, tags=["recovery"])


@router.post("/login/disown", status_code=204, responses=problems(400, 408, 415, 422, 503))
async def disown_login(body: LoginDisowning, request: Request) -> None:
    """End a login that was not yours, with the token from the mail about its new device.

    Its refresh tokens stop working too. Other logins and personal access tokens do not end: choose
    a new password then, which ends all of them. The answer is the same if the login has ended
    already.
    """
    await context_of(request).runtime.services.accounts.new_devices.disown(body.token)
