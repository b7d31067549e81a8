"""POST /login and POST /logout: a password becomes a credential, and a credential ends."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.errors import InputError, InvalidInput
from authapi.identity import Identity
from authapi.strategies.base import Revocable
from authapi.web.context import Runtime, context_of
from authapi.web.csrf import check_origin
from authapi.web.openapi import problems, response_header
from authapi.web.resolver import revocable_identity
from authapi.web.routing import AuthAPIRoute, ProtectedRoute
from authapi.web.schemas import LoginOut, LoginRequest, UserOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])
protected = APIRouter(route_class=ProtectedRoute, tags=["login"])


_COOKIE: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "The cookie of `session`; other strategies set none.")
}
_CLEARED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "Removes the cookie, if the request came with one.")
}


@router.post(
    "/login",
    response_model=LoginOut,
    responses=_COOKIE | problems(400, 401, 403, 408, 415, 422, 429, 503),
)
async def login(body: LoginRequest, request: Request) -> Response:
    """Turn e-mail address and password into a credential of the chosen strategy.

    `session` answers with a cookie and no secret in the body; `token` and `jwt` answer with an
    `access_token` for the Authorization header.
    """
    # A page that logs its visitor in to somebody else's account would read along from then on.
    check_origin(request)
    runtime = context_of(request).runtime
    name = body.strategy or runtime.services.settings.default_strategy
    issuer = runtime.registry.issuers.get(name)
    if issuer is None:
        raise _no_such_strategy(runtime)
    proved = await runtime.services.accounts.prove(body.email, body.password, strategy=name)
    issued = await issuer.issue(proved, request, remember=body.remember)
    members = {"user": UserOut.of(proved.user), "strategy": name, "expires_at": issued.expires_at}
    answer = LoginOut.model_validate({**issued.body, **members})
    return _with_headers(
        Response(answer.model_dump_json(exclude_unset=True), media_type="application/json"),
        issued.headers,
    )


@protected.post("/logout", status_code=204, responses=_CLEARED | problems(401, 503))
async def logout(
    identity: Annotated[Identity, Depends(revocable_identity())], request: Request
) -> Response:
    """End the credential that this request came with, at once and everywhere."""
    strategy = context_of(request).runtime.registry[identity.strategy]
    if not isinstance(strategy, Revocable):  # the gate lets no other through
        raise TypeError(f"{identity.strategy} cannot log out")
    return _with_headers(Response(status_code=204), await strategy.revoke(identity))


def _no_such_strategy(runtime: Runtime) -> InvalidInput:
    names = ", ".join(runtime.registry.issuers)
    return InvalidInput(InputError(("body", "strategy"), "unknown_strategy", f"one of {names}"))


def _with_headers(response: Response, headers: tuple[tuple[str, str], ...]) -> Response:
    for name, value in headers:
        response.headers.append(name, value)
    return response


router.routes.extend(protected.routes)
