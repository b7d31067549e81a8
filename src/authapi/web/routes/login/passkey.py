"""POST /login/passkey logs in by a passkey alone; the options for a browser come before."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.factors.passkeys import Assertion
from authapi.strategies.base import read_header
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.login_cookie import (
    browser_cookie,
    browser_id,
    discarded_cookie,
    read_browser_id,
)
from authapi.web.routes.login import second_factor
from authapi.web.routes.login.password import LogIn, finish, issuer_of, login_response, with_headers
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.factors.passkeys import PasskeyLogin, RequestOptionsOut, WaitingLogin
from authapi.web.schemas.login import LoginOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

_COOKIE: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "The session cookie, with the strategy `session`.")
}
_BROWSER: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "Names this browser while the login is under way.")
}


@router.post(
    "/login/passkey/options",
    response_model=RequestOptionsOut,
    responses=_BROWSER | problems(403, 503),
)
async def passkey_options(request: Request) -> Response:
    """Get the options for `navigator.credentials.get()`. They name no account.

    The answer is valid with the cookie that this response sets, once, for five minutes.
    """
    check_origin(request)
    services = context_of(request).runtime.services
    browser = browser_id(request, services.settings)
    options = await services.passkey_logins.options(browser, origin=read_header(request, b"origin"))
    content = RequestOptionsOut.of(options).model_dump_json(by_alias=True)
    return with_headers(
        Response(content, media_type="application/json"),
        browser_cookie(browser, services.settings),
    )


@router.post(
    "/login/passkey",
    response_model=LoginOut,
    responses=_COOKIE | problems(400, 401, 403, 408, 415, 422, 503),
)
async def log_in_by_passkey(body: PasskeyLogin, request: Request) -> Response:
    """Log in with a passkey, whose authenticator has verified its user. No code is asked for.

    A refusal has the member `unknown` if no account has the passkey: a page can have it removed
    with `PublicKeyCredential.signalUnknownCredential()`.
    """
    done = await prove_passkey(
        request, body.credential.assertion(), strategy=body.strategy, remember=body.remember
    )
    return login_response(done)


async def prove_passkey(
    request: Request, passkey: Assertion, *, strategy: str | None, remember: bool
) -> LogIn:
    """Logs in by a passkey that answers the options of this browser, and issues a credential.

    Raises PasskeyRefused, PasskeysUnavailable, the errors of the hooks `before_login`,
    ForeignOrigin, InvalidInput for an unknown strategy, InvalidCredentials if the account was
    changed meanwhile, and Unavailable if the database does not answer or no key can sign a token.
    """
    check_origin(request)
    runtime = context_of(request).runtime
    settings = runtime.services.settings
    issuer = issuer_of(runtime, strategy)
    proved = await runtime.services.passkey_logins.authenticate(
        passkey, read_browser_id(request, settings), request=request
    )
    done = await finish(request, proved, issuer, remember=remember)
    return replace(done, discards=discarded_cookie(request, settings))


@router.post(
    "/login/second-factor/options",
    response_model_by_alias=True,
    responses=problems(400, 401, 403, 408, 415, 422, 503),
)
async def second_factor_options(body: WaitingLogin, request: Request) -> RequestOptionsOut:
    """Get the options for `navigator.credentials.get()` of a login that waits for its second step.

    They name the passkeys of the account, whose first factor is proved.
    """
    return await second_factor.passkey_options(request, body.ticket)
