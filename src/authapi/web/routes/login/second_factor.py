"""POST /login/second-factor completes a login whose first factor was proved."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import ValidationException
from pydantic import ValidationError
from starlette.responses import Response

from authapi.domain.factors.passkeys import Assertion
from authapi.errors import InputError, InvalidInput, LoginExpired
from authapi.services.logins.complete import CompletedLogin
from authapi.strategies.base import read_header
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.answers.validation import invalid_input
from authapi.web.context import Runtime, context_of
from authapi.web.csrf import check_origin
from authapi.web.login_cookie import discarded_cookie, waiting_browser
from authapi.web.routes.login.password import LogIn, login_response
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.factors.credentials import AssertedCredential
from authapi.web.schemas.factors.passkeys import RequestOptionsOut
from authapi.web.schemas.login import LoginOut, SecondFactor

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

_COOKIE: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "The session cookie, with the strategy `session`.")
}


@router.post(
    "/login/second-factor",
    response_model=LoginOut,
    responses=_COOKIE | problems(400, 401, 403, 408, 415, 422, 429, 503),
)
async def second_factor(body: SecondFactor, request: Request) -> Response:
    """Complete a login with a code of the authenticator app, a recovery code or a passkey.

    The login is the one that was answered with `second_factor_required`: send its `ticket`, or the
    cookie that came with that answer. It allows five attempts.
    """
    done = await prove_second_factor(
        request,
        ticket=body.ticket,
        code=body.code,
        recovery_code=body.recovery_code,
        passkey=None if body.passkey is None else body.passkey.assertion(),
    )
    return login_response(done)


async def prove_second_factor(
    request: Request,
    *,
    ticket: str | None = None,
    code: str | None = None,
    recovery_code: str | None = None,
    passkey: Assertion | None = None,
) -> LogIn:
    """Verifies the second factor of a login, and issues its credential.

    Without `ticket`, the login is the one under way in the browser of `request`.

    Raises LoginExpired, SecondFactorRefused, TooManyAttempts, ForeignOrigin, for a passkey
    PasskeysUnavailable, InvalidCredentials if the account was changed meanwhile, and Unavailable if
    the database does not answer or no key can sign a token.
    """
    check_origin(request)
    services = context_of(request).runtime.services
    browser = waiting_browser(request, services.settings, ticket)
    found = await services.logins.prove_second_factor(
        ticket=ticket, browser=browser, code=code, recovery_code=recovery_code, passkey=passkey
    )
    return await issue_completed(request, found)


async def issue_completed(request: Request, completed: CompletedLogin) -> LogIn:
    """Issues the credential of a login that has gone on by a ticket, and deletes its cookie.

    Raises LoginExpired if another request has used the ticket up, or the strategy is not configured
    any longer; SecondFactorRefused; InvalidCredentials if the account was changed meanwhile.
    """
    runtime = context_of(request).runtime
    services = runtime.services
    issuer = runtime.registry.issuers.get(completed.strategy)
    if issuer is None:  # the settings were changed while the login was under way
        raise LoginExpired
    issued = await issuer.issue(completed.login, request, remember=completed.remember)
    # A strategy that keeps no session has used nothing up.
    await services.logins.use_up(completed.login)
    discards = discarded_cookie(request, services.settings)
    return LogIn(completed.login.user, issuer.name, issued, discards)


async def passkey_options(request: Request, ticket: str | None) -> RequestOptionsOut:
    """Returns the options of a passkey for a login that waits for its second factor.

    Without `ticket`, the login is the one under way in the browser of `request`. Raises
    LoginExpired, PasskeysUnavailable, ForeignOrigin, and Unavailable if the database does not
    answer.
    """
    check_origin(request)
    services = context_of(request).runtime.services
    options = await services.logins.passkey_options(
        ticket=ticket,
        browser=waiting_browser(request, services.settings, ticket),
        origin=read_header(request, b"origin"),
    )
    return RequestOptionsOut.of(options)


async def passkey_options_by_form(
    runtime: Runtime, request: Request, *, ticket: str | None = None
) -> dict[str, Any]:
    """Returns the options as JSON for a handler of the application.

    Raises as `passkey_options`, and RuntimeError if the request belongs to another installation
    than `runtime`.
    """
    _check_installation(runtime, request)
    return (await passkey_options(request, ticket)).model_dump(mode="json", by_alias=True)


async def prove_second_factor_by_form(
    runtime: Runtime,
    request: Request,
    *,
    ticket: str | None = None,
    code: str | None = None,
    recovery_code: str | None = None,
    passkey: Mapping[str, object] | None = None,
) -> LogIn:
    """Completes a login for a handler of the application. `passkey` is the JSON of the browser.

    Raises as `prove_second_factor`, InvalidInput unless exactly one of `code`, `recovery_code` and
    `passkey` is given and `passkey` has the members of an answer, and RuntimeError if the request
    belongs to another installation than `runtime`.
    """
    _check_installation(runtime, request)
    if [code, recovery_code, passkey].count(None) != 2:
        message = "send exactly one of code, recovery_code and passkey"
        raise InvalidInput(InputError(("code",), "one_code", message))
    return await prove_second_factor(
        request,
        ticket=ticket,
        code=code,
        recovery_code=recovery_code,
        passkey=None if passkey is None else _assertion_of(passkey),
    )


def _check_installation(runtime: Runtime, request: Request) -> None:
    if context_of(request).runtime is not runtime:
        raise RuntimeError("the request belongs to another installation of authapi")


def _assertion_of(passkey: Mapping[str, object]) -> Assertion:
    try:
        return AssertedCredential.model_validate(passkey).assertion()
    except ValidationError as error:
        errors = [{**item, "loc": ("passkey", *item["loc"])} for item in error.errors()]
        raise invalid_input(ValidationException(errors)) from None
