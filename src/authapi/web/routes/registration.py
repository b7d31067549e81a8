"""POST /register creates an account."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.own_columns import profile_of
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.fields import check_username_member
from authapi.web.schemas.registration import Registration
from authapi.web.schemas.user import UserOut

router = APIRouter(route_class=AuthAPIRoute, tags=["account"])

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "With `registration=confirm`: a mail was sent to the address. The response "
        "does not reveal whether the address already has an account."
    }
}


@router.post(
    "/register",
    status_code=201,
    response_model=UserOut,
    responses=_ACCEPTED | problems(400, 403, 408, 409, 415, 422, 429, 503),
)
async def register(body: Registration, request: Request) -> UserOut | Response:
    """Create an account."""
    services = context_of(request).runtime.services
    check_username_member(body, services.settings.login_identifier)
    user = await services.accounts.registration.register(
        body.email,
        body.password,
        name=body.name,
        username=body.username,
        locale=body.locale,
        profile=profile_of(body),
        request=request,
    )
    return Response(status_code=202) if user is None else UserOut.of(user)
