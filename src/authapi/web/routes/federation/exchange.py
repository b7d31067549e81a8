"""POST /login/with/exchange issues the credential of a login that began at a provider."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.routes.login.password import finish, issuer_of, login_response
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.federation.flows import LoginCode
from authapi.web.schemas.login import LoginOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])


@router.post(
    "/login/with/exchange",
    response_model=LoginOut,
    responses=problems(400, 401, 403, 408, 415, 422, 429, 503),
)
async def exchange_code(body: LoginCode, request: Request) -> Response:
    """Exchange the code of a login at a provider for its credential, as `POST /login` answers.

    The code is in the fragment of the address to which the login has led. It can be used once, for
    a minute. The response is 401 `second_factor_required` if the account has a second factor.
    """
    check_origin(request)
    runtime = context_of(request).runtime
    found = await runtime.services.federation.codes.redeem(body.code)
    issuer = issuer_of(runtime, found.strategy)
    done = await finish(request, found.proved, issuer, remember=found.remember)
    return login_response(done)
