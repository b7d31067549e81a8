"""Performs a form of a page: a refusal becomes messages on the form, which is shown again."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from authapi.crypto.password_normalization import is_too_long
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.identity import Identity
from authapi.errors import (
    ForeignOrigin,
    InputError,
    InvalidCredential,
    InvalidInput,
    LoginExpired,
    NotFound,
    Refusal,
    SecondFactorRefused,
    SuperuserRequired,
    TooManyAttempts,
    TooManyRequests,
    Unavailable,
)
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import Form, render, sentence, single_line, too_many
from authapi.web.pages.site import site_of
from authapi.web.pages.texts import ATTEMPTS_LEFT, ERRORS
from authapi.web.problems import status_of
from authapi.web.resolver import optional_identity_if_configured, resolve
from authapi.web.routing import MAX_FIELDS, read_form

_CALLER = optional_identity_if_configured("session")
OptionalCaller = Annotated[Identity | None, Depends(_CALLER)]
"""The person who is signed in; None without one. A page shows the form in any case."""

Show = Callable[[Form, int], Awaitable[Response]]
"""Returns the page with a form that was refused, with this status."""

_SECRETS = ("password", "new_password", "current_password", "code", "recovery_code", "token")
_FIELDS = frozenset(
    {*_SECRETS, "email", "emails", "name", "username", "expires_in", "scopes", "kid"}
) - {"token"}
"""The fields of the pages. An error of another member is one of the form as a whole."""
_LINE_END = re.compile(r"\r\n?|\n")
_PASSWORDS = ("password", "new_password", "current_password")


@dataclass(frozen=True, slots=True)
class Sent:
    """The fields of a form that was sent."""

    fields: Mapping[str, str] = field(repr=False)

    def get(self, name: str) -> str:
        """Returns the value of a field, or an empty text."""
        return self.fields.get(name, "")

    @property
    def typed(self) -> Mapping[str, str]:
        """The values to show again: all but secrets. Of several lines, they are one line."""
        return {
            name: single_line(_LINE_END.sub(" ", value))
            for name, value in self.fields.items()
            if name not in _SECRETS
        }

    @property
    def repeated(self) -> Mapping[str, str]:
        """The values that a page may send again: those typed, and the token of a link."""
        return {**self.typed, "token": single_line(self.get("token"))}

    @property
    def secrets(self) -> Sequence[str]:
        """The names of the secrets that were typed."""
        return [name for name in _SECRETS if name != "token" and self.get(name)]


async def receive(request: Request, *, max_fields: int = MAX_FIELDS) -> Sent:
    """Returns the fields of a form of our origin. Raises ForeignOrigin, and as `read_form`."""
    check_origin(request)
    return Sent(await read_form(request, max_fields=max_fields))


async def receive_from_caller(
    request: Request,
    submit: Callable[[Sent, Identity | None], Awaitable[Response]],
    *,
    max_fields: int = MAX_FIELDS,
) -> Response:
    """Returns the response of `submit` to a form, and to the person who is signed in.

    If the database does not answer, the response is a page that sends the form again: what was
    typed is not lost. Raises as `receive`, as the gate of the caller, and the errors of `submit`.
    """
    sent = await receive(request, max_fields=max_fields)
    try:
        return await submit(sent, await resolve(_CALLER, request))
    except Unavailable as refusal:
        response = render(
            request,
            "try-again",
            status=status_of(refusal),
            problem=sentence(request, refusal.code, status_of(refusal)),
            values=sent.repeated,
            secrets=sent.secrets,
        )
        response.headers["retry-after"] = str(refusal.retry_after)
        return response


async def perform(
    request: Request,
    sent: Sent,
    act: Callable[[], Awaitable[Response]],
    show: Show,
    *,
    fields: Mapping[str, str] | None = None,
) -> Response:
    """Returns the response of `act`, or the form with what `act` was refused for.

    `fields` maps codes of errors to the fields that they are about.

    Raises ForeignOrigin, InvalidCredential if the session of the caller has ended, LoginExpired,
    NotFound, and SuperuserRequired.
    """
    try:
        for name in _PASSWORDS:
            if is_too_long(sent.get(name)):
                raise invalid(name, "password_too_long")
        return await act()
    except (ForeignOrigin, InvalidCredential, LoginExpired, NotFound, SuperuserRequired):
        raise
    except (Refusal, Unavailable) as refusal:
        return await _refused(request, sent, refusal, show, fields or {})


def typed_address(request: Request, sent: Sent) -> EmailAddress:
    """Returns the address in the field `email`. Raises InvalidInput."""
    allow_reserved = context_of(request).runtime.services.settings.allow_reserved_addresses
    return parse_email(sent.get("email").strip(), allow_reserved=allow_reserved)


def invalid(name: str, code: str) -> InvalidInput:
    """Returns the refusal of the field `name`, with the text of `code`."""
    return InvalidInput(InputError(("body", name), code, "is not valid"))


async def _refused(
    request: Request,
    sent: Sent,
    refusal: Refusal | Unavailable,
    show: Show,
    fields: Mapping[str, str],
) -> Response:
    status, code = status_of(refusal), getattr(refusal, "code", "other")
    if isinstance(refusal, InvalidInput):
        errors = {
            str(item.loc[-1]): sentence(request, item.code, status)
            for item in reversed(refusal.errors)
        }
        known = {name: text for name, text in errors.items() if name in _FIELDS}
        problem = None if len(known) == len(errors) else sentence(request, "refused")
        form = Form(sent.typed, known, problem)
    elif code in fields:
        form = Form(sent.typed, {fields[code]: _problem(request, refusal, code, status)})
    else:
        form = Form(sent.typed, problem=_problem(request, refusal, code, status))
    try:
        response = await show(form, status)
    except Refusal:
        # The change may have been made all the same: its link is used, or its account is deleted.
        # "This link does not work" would say that it was not.
        if isinstance(refusal, Unavailable):
            raise refusal from None
        raise
    if isinstance(refusal, TooManyAttempts | TooManyRequests | Unavailable):
        response.headers["retry-after"] = str(refusal.retry_after)
    if status == 401:
        # RFC 9110, section 15.5.2: each response 401 has a challenge.
        challenge = context_of(request).runtime.registry["session"].challenge()
        response.headers["www-authenticate"] = str(challenge)
    return response


def _problem(request: Request, refusal: Refusal | Unavailable, code: str, status: int) -> str:
    if isinstance(refusal, TooManyAttempts | TooManyRequests):
        return too_many(request, refusal.retry_after)
    if isinstance(refusal, SecondFactorRefused):
        left = site_of(request).plural(*ATTEMPTS_LEFT, refusal.attempts_left, language_of(request))
        return f"{sentence(request, code, status)} {left}"
    if isinstance(refusal, Refusal) and code not in ERRORS and refusal.detail is not None:
        return refusal.detail  # a hook of the application has refused, and says why
    return sentence(request, code, status)
