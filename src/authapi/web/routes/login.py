"""POST /login issues a credential for a password; POST /logout revokes a credential."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.strategies.base import Revocable
from authapi.web.context import context_of
from authapi.web.login import log_in
from authapi.web.openapi import problems, response_header
from authapi.web.resolver import revocable_identity
from authapi.web.routing import AuthAPIRoute, ProtectedRoute
from authapi.web.schemas.login import LoginOut, LoginRequest
from authapi.web.schemas.user import UserOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])
protected = APIRouter(route_class=ProtectedRoute, tags=["login"])


_COOKIE: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "The session cookie, with the strategy `session`.")
}
_CLEARED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "Deletes the cookie, if the request had one.")
}


@router.post(
    "/login",
    response_model=LoginOut,
    responses=_COOKIE | problems(400, 401, 403, 408, 415, 422, 429, 503),
)
async def login(body: LoginRequest, request: Request) -> Response:
    """Log in with e-mail address or user name, and password, and get a credential.

    `session` sets a cookie, and the body contains no secret. `token` and `jwt` return an
    `access_token` for the header Authorization.
    """
    settings = context_of(request).runtime.services.settings
    done = await log_in(
        request,
        body.login_name(
            settings.login_identifier, allow_reserved=settings.allow_reserved_addresses
        ),
        body.password,
        strategy=body.strategy,
        remember=body.remember,
    )
    members = {
        "user": UserOut.of(done.user),
        "strategy": done.strategy,
        "expires_at": done.expires_at,
    }
    answer = LoginOut.model_validate({**done.body, **members})
    return _with_headers(
        Response(answer.model_dump_json(exclude_unset=True), media_type="application/json"),
        done.issued.headers,
    )


@protected.post("/logout", status_code=204, responses=_CLEARED | problems(401, 503))
async def logout(
    identity: Annotated[Identity, Depends(revocable_identity())], request: Request
) -> Response:
    """Revoke the credential of this request. It stops working at once, in all processes."""
    strategy = context_of(request).runtime.registry[identity.strategy]
    if not isinstance(strategy, Revocable):  # the gate accepts only revocable strategies
        raise TypeError(f"{identity.strategy} cannot log out")
    return _with_headers(Response(status_code=204), await strategy.revoke(identity))


def _with_headers(response: Response, headers: tuple[tuple[str, str], ...]) -> Response:
    for name, value in headers:
        response.headers.append(name, value)
    return response


router.routes.extend(protected.routes)
