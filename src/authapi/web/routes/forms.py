"""GET /account/... shows a form; POST performs its action, and shows the result."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.crypto.password_normalization import is_too_long
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.identity import Identity
from authapi.errors import (
    EmailTaken,
    InputError,
    InvalidInput,
    InvalidOneTimeSecret,
    ProofRequired,
    TooManyAttempts,
    Unavailable,
    WrongPassword,
)
from authapi.services import Services
from authapi.services.revalidation import has_session_ended
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.middleware.link_secrets import link_secret
from authapi.web.pages.rendering import ErrorField, Page, render, stylesheet_response
from authapi.web.problems import status_of
from authapi.web.resolver import optional_identity_if_configured
from authapi.web.routing import AuthAPIRoute, read_form

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

OptionalCaller = Annotated[Identity | None, Depends(optional_identity_if_configured("session"))]
FormAction = Callable[[Services, Mapping[str, str], Identity | None], Awaitable[str]]
"""Performs the action of a form, and returns the name of the text that confirms it."""

_MAX_TOKEN_LENGTH = 200
_WITHOUT_PASSWORD = "without_password"
"""Value of the second button of the page `confirm`."""


async def _confirm(services: Services, form: Mapping[str, str], caller: Identity | None) -> str:
    if form.get("action") == _WITHOUT_PASSWORD:
        await services.accounts.email_changes.confirm_email(
            form["token"], entered_email=await _typed(services, form)
        )
        return "without_password.done"
    password = form.get("password") or None
    if password is None and caller is None:
        # Without this check, submitting an empty field by mistake would remove the content of the
        # account.
        raise _invalid("password", "password_needed")
    proof = caller if password is None else None
    await services.accounts.email_changes.confirm_email(
        form["token"], password=password, caller=proof
    )
    return "confirm.done"


async def _reset(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.accounts.passwords.reset(form["token"], form.get("new_password", ""))
    return "reset.done"


async def _undo(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.accounts.email_changes.revert_email_change(
        form["token"], entered_email=await _typed(services, form)
    )
    return "undo.done"


async def _disown(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.accounts.new_devices.disown(form["token"])
    return "disown.done"


async def _accept(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.accounts.invitations.accept(form["token"], form.get("password", ""), name=None)
    return "invitation.done"


async def _forgot(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.accounts.deferred_requests.submit("reset", _address(services, form))
    return "forgot.done"


def _address(services: Services, form: Mapping[str, str]) -> EmailAddress:
    allow_reserved = services.settings.allow_reserved_addresses
    return parse_email(form.get("email", ""), allow_reserved=allow_reserved)


async def _typed(services: Services, form: Mapping[str, str]) -> EmailAddress:
    try:
        return _address(services, form)
    except InvalidInput:
        # If the link is no longer valid, that is the error to show.
        await services.accounts.email_changes.check_token(form["token"])
        raise


def _invalid(field: str, code: str) -> InvalidInput:
    return InvalidInput(InputError(("body", field), code, "is not valid"))


def _password_page(name: str, field: str) -> Page:
    return Page(name, field, "new_password", autocomplete="new-password", hint="at_least")


PAGES: Mapping[str, tuple[Page, FormAction]] = {
    page.name: (page, action)
    for page, action in (
        (
            Page(
                "confirm",
                "password",
                "password",
                autocomplete="current-password",
                required=False,
                allows_no_password=True,
            ),
            _confirm,
        ),
        (_password_page("reset", "new_password"), _reset),
        (Page("undo", "email", "undo.email", type="email", autocomplete="email"), _undo),
        (Page("disown", offers_reset=True), _disown),
        (_password_page("invitation", "password"), _accept),
        (
            Page("forgot", "email", "email", type="email", autocomplete="email", needs_token=False),
            _forgot,
        ),
    )
}


def _add_routes(page: Page, action: FormAction) -> None:
    async def show(request: Request) -> Response:
        token = link_secret(request)
        if page.needs_token and not 0 < len(token) <= _MAX_TOKEN_LENGTH:
            return render(
                request, page, status=400, error="invalid_one_time_secret", shows_form=False
            )
        return render(request, page, token=token)

    async def submit(request: Request, caller: OptionalCaller) -> Response:
        check_origin(request)
        form = await read_form(request)
        token = form.get("token", "")
        typed = form.get("email", "")
        field: ErrorField = "address" if form.get("action") == _WITHOUT_PASSWORD else "field"
        services = context_of(request).runtime.services
        try:
            if page.type == "password" and is_too_long(form.get(page.field or "", "")):
                raise _invalid(page.field or "", "password_too_long")
            if page.needs_token and not 0 < len(token) <= _MAX_TOKEN_LENGTH:
                raise InvalidOneTimeSecret
            done = await action(services, form | {"token": token}, caller)
        except InvalidInput as refusal:
            code = refusal.errors[0].code
            return render(
                request, page, status=422, token=token, typed=typed, error=code, error_field=field
            )
        except (WrongPassword, ProofRequired) as refusal:
            return render(
                request, page, status=403, token=token, error=refusal.code, error_field="field"
            )
        except (InvalidOneTimeSecret, EmailTaken) as refusal:
            status = status_of(refusal)
            return render(request, page, status=status, error=refusal.code, shows_form=False)
        except (TooManyAttempts, Unavailable) as refusal:
            response = render(
                request,
                page,
                status=status_of(refusal),
                token=token,
                typed=typed,
                error=refusal.code,
            )
            response.headers["retry-after"] = str(refusal.retry_after)
            return response
        if caller is not None and await has_session_ended(services.database, caller):
            context_of(request).discard(caller)
        return render(request, page, done=done)

    router.add_api_route(f"/{page.name}", show, methods=["GET"])
    router.add_api_route(f"/{page.name}", submit, methods=["POST"])


for _page, _action in PAGES.values():
    _add_routes(_page, _action)


@router.get("/page.css")
async def stylesheet() -> Response:
    """The stylesheet of the pages."""
    return stylesheet_response()
