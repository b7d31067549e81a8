"""POST /register."""

from fastapi import APIRouter, Request

from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas import Registration, UserOut

router = APIRouter(route_class=AuthAPIRoute, tags=["account"])


@router.post(
    "/register", status_code=201, responses=problems(400, 403, 408, 409, 415, 422, 429, 503)
)
async def register(body: Registration, request: Request) -> UserOut:
    """Make an account."""
    accounts = context_of(request).runtime.services.accounts
    return UserOut.of(await accounts.register(body.email, body.password, name=body.name))
