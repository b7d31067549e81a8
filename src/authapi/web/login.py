"""A login for a form of the application: the same limits, events and cookies as `POST /login`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from authapi.crypto.password_normalization import MAX_LENGTH, is_too_long
from authapi.domain.email_address import EmailAddress
from authapi.domain.user import User
from authapi.domain.username import Username, parse_login_name
from authapi.errors import InputError, InvalidInput
from authapi.strategies.base import Issued
from authapi.web.context import Runtime, context_of
from authapi.web.csrf import check_origin


@dataclass(frozen=True, slots=True)
class LogIn:
    """A login that has succeeded, and the credential that was issued for it."""

    user: User
    strategy: str
    """The name of the strategy that has issued the credential."""
    issued: Issued

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
        for name, value in self.issued.headers:
            response.headers.append(name, value)
        response.headers["Cache-Control"] = "no-store"


async def log_in(
    request: Request,
    login_name: EmailAddress | Username,
    password: str,
    *,
    strategy: str | None = None,
    remember: bool = False,
) -> LogIn:
    """Authenticates by password and issues a credential of `strategy`, by default of the settings.

    Raises the errors of the hooks `before_login`, ForeignOrigin, InvalidInput for an unknown
    strategy or a password that is too long, InvalidCredentials, TooManyAttempts, Overloaded, and
    Unavailable if the database does not answer or no key can sign a token.
    """
    # Login CSRF: a page of another origin could log its visitor in to the account of an attacker,
    # who would then see what the visitor does.
    check_origin(request)
    runtime = context_of(request).runtime
    name = strategy or runtime.services.settings.default_strategy
    issuer = runtime.registry.issuers.get(name)
    if issuer is None:
        message = f"must be one of {', '.join(runtime.registry.issuers)}"
        raise InvalidInput(InputError(("body", "strategy"), "unknown_strategy", message))
    if is_too_long(password):
        message = f"must have at most {MAX_LENGTH} characters"
        raise InvalidInput(InputError(("body", "password"), "string_too_long", message))
    login = await runtime.services.accounts.authentication.authenticate(
        login_name, password, strategy=name, request=request
    )
    issued = await issuer.issue(login, request, remember=remember)
    return LogIn(login.user, name, issued)


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
