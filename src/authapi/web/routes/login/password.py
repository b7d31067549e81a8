"""POST /login issues a credential for a password; POST /logout revokes a credential.

A form of the application logs in by `log_in_by_form`, with the same limits, events and cookies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.crypto.password_normalization import MAX_LENGTH, is_too_long
from authapi.crypto.secrets import new_secret
from authapi.domain.email_address import EmailAddress
from authapi.domain.factors.values import TicketPurpose
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.domain.username import Username, parse_login_name
from authapi.errors import EnrolmentRequired, InputError, InvalidInput, SecondFactorRequired
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Proved
from authapi.strategies.base import Issued, Issuer, Revocable
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.context import Runtime, context_of
from authapi.web.csrf import check_origin
from authapi.web.federation.ticket_cookie import discard_ticket
from authapi.web.login_cookie import (
    browser_cookie,
    discarded_cookie,
    read_browser_id,
)
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


@dataclass(frozen=True, slots=True)
class LogIn:
    """A login that has succeeded, and the credential that was issued for it."""

    user: User
    strategy: str
    """The name of the strategy that has issued the credential."""
    issued: Issued
    discards: tuple[tuple[str, str], ...] = ()
    """The headers that delete the cookies of a login under way, if the request had any."""

    @property
    def expires_at(self) -> datetime:
        """When the credential ends."""
        return self.issued.expires_at

    @property
    def body(self) -> Mapping[str, object]:
        """The members for the client, such as `access_token`; empty for a cookie session.

        They contain secrets: send them with `Cache-Control: no-store`.
        """
        return self.issued.body

    def set_on(self, response: Response) -> None:
        """Adds the cookie to `response`, if the strategy has one, and `Cache-Control: no-store`."""
        for name, value in (*self.issued.headers, *self.discards):
            response.headers.append(name, value)
        response.headers["Cache-Control"] = "no-store"


@router.post(
    "/login",
    response_model=LoginOut,
    responses=_COOKIE | problems(400, 401, 403, 408, 415, 422, 429, 503),
)
async def login(body: LoginRequest, request: Request) -> Response:
    """Log in with e-mail address or user name, and password, and get a credential.

    `session` sets a cookie, and the body contains no secret. `token` and `jwt` return an
    `access_token` for the header Authorization. The response is 401 `second_factor_required` if the
    account has a second factor, and 401 `enrolment_required` if it must add one: the login goes on
    with the `ticket`, or with the cookie of that response.
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
    return login_response(done)


def login_response(done: LogIn, **further: object) -> Response:
    """Returns the response to a login that has succeeded, with `further` members."""
    members = {
        "user": UserOut.of(done.user),
        "strategy": done.strategy,
        "expires_at": done.expires_at,
    }
    answer = LoginOut.model_validate({**done.body, **further, **members})
    return with_headers(
        Response(answer.model_dump_json(exclude_unset=True), media_type="application/json"),
        (*done.issued.headers, *done.discards),
    )


async def abandon_login(request: Request) -> None:
    """Ends the login that waits for a second factor in this browser, if there is one."""
    services = context_of(request).runtime.services
    browser = read_browser_id(request, services.settings)
    if browser is not None:
        check_origin(request)
        await services.logins.abandon(browser)
        context_of(request).discards += discarded_cookie(request, services.settings)


@protected.post(
    "/logout",
    status_code=204,
    responses=_CLEARED | problems(401, 503),
    dependencies=[Depends(abandon_login)],
)
async def logout(
    identity: Annotated[Identity, Depends(revocable_identity())], request: Request
) -> Response:
    """Revoke the credential of this request. It stops working at once, in all processes.

    A login that waits for a second factor in this browser ends too.
    """
    strategy = context_of(request).runtime.registry[identity.strategy]
    if not isinstance(strategy, Revocable):  # the gate accepts only revocable strategies
        raise TypeError(f"{identity.strategy} cannot log out")
    headers = await strategy.revoke(identity)
    return with_headers(
        Response(status_code=204),
        (*headers, *discarded_cookie(request, context_of(request).runtime.services.settings)),
    )


async def log_in(
    request: Request,
    login_name: EmailAddress | Username,
    password: str,
    *,
    strategy: str | None = None,
    remember: bool = False,
) -> LogIn:
    """Authenticates by password and issues a credential of `strategy`, by default of the settings.

    Raises the errors of the hooks `before_login`, SecondFactorRequired, EnrolmentRequired,
    ForeignOrigin, InvalidInput for an unknown strategy or a password that is too long,
    InvalidCredentials, TooManyAttempts, Overloaded, and Unavailable if the database does not answer
    or no key can sign a token.
    """
    # Login CSRF: a page of another origin could log its visitor in to the account of an attacker,
    # who would then see what the visitor does.
    check_origin(request)
    runtime = context_of(request).runtime
    issuer = issuer_of(runtime, strategy)
    if is_too_long(password):
        message = f"must have at most {MAX_LENGTH} characters"
        raise InvalidInput(InputError(("body", "password"), "string_too_long", message))
    proved = await runtime.services.accounts.authentication.authenticate(
        login_name, password, may_continue=True, strategy=issuer.name, request=request
    )
    return await finish(request, proved, issuer, remember=remember)


def issuer_of(runtime: Runtime, strategy: str | None) -> Issuer[Any]:
    """Returns the issuer of this name, by default that of the settings. Raises InvalidInput."""
    issuer = runtime.registry.issuers.get(strategy or runtime.services.settings.default_strategy)
    if issuer is None:
        message = f"must be one of {', '.join(runtime.registry.issuers)}"
        raise InvalidInput(InputError(("body", "strategy"), "unknown_strategy", message))
    return issuer


async def finish(request: Request, proved: Proved, issuer: Issuer[Any], *, remember: bool) -> LogIn:
    """Issues a credential for a proved factor, or asks for the second one.

    Raises SecondFactorRequired, or EnrolmentRequired if the account must add a second factor, with
    the ticket, or with the cookie that stands for it if the strategy uses cookies;
    InvalidCredentials if the account was changed meanwhile; PasskeyRefused if another login has
    used the passkey up.
    """
    runtime = context_of(request).runtime
    services, settings = runtime.services, runtime.services.settings
    browser = new_secret() if issuer.ambient else None  # unused if the login is complete
    found = await services.logins.complete(
        proved, strategy=issuer.name, remember=remember, browser=browser
    )
    if isinstance(found, PendingLogin):
        adds_factor = found.purpose is TicketPurpose.ENROL
        raise (EnrolmentRequired if adds_factor else SecondFactorRequired)(
            ticket=found.ticket,
            methods=[method.value for method in found.methods],
            expires_at=found.expires_at,
            headers=() if browser is None else browser_cookie(browser, settings),
        )
    issued = await issuer.issue(found, request, remember=remember)
    # A strategy that keeps no session has used nothing up.
    await services.logins.use_up(found)
    # What another person has left in this browser does not go on.
    left = discard_ticket(request) if runtime.upstreams else ()
    return LogIn(found.user, issuer.name, issued, left)


async def log_in_by_form(
    runtime: Runtime,
    request: Request,
    email: str,
    password: str,
    *,
    strategy: str | None = None,
    remember: bool = False,
) -> LogIn:
    """Logs in for a handler of the application. `email` is what the user has entered.

    It is an address or a user name, as the setting `login_identifier` says. Raises as `log_in`,
    InvalidInput for `email`, and RuntimeError if the request belongs to another installation than
    `runtime`.
    """
    if context_of(request).runtime is not runtime:
        raise RuntimeError("the request belongs to another installation of authapi")
    settings = runtime.services.settings
    login_name = parse_login_name(
        email,
        settings.login_identifier,
        loc=("email",),
        allow_reserved=settings.allow_reserved_addresses,
    )
    return await log_in(request, login_name, password, strategy=strategy, remember=remember)


def with_headers(response: Response, headers: tuple[tuple[str, str], ...]) -> Response:
    """Adds `headers` to `response`, and returns it."""
    for name, value in headers:
        response.headers.append(name, value)
    return response


router.routes.extend(protected.routes)
