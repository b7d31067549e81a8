"""GET /account/... shows a form; POST does what it is for, and shows what came of it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.crypto.password_text import is_too_long
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
from authapi.identity import Identity
from authapi.services import Services
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.alive import has_ended
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.edge.link_secrets import link_secret
from authapi.web.errors import status_of
from authapi.web.pages.rendering import At, Page, render, style
from authapi.web.resolver import identity_if_any
from authapi.web.routing import AuthAPIRoute, read_form

router = APIRouter(route_class=AuthAPIRoute, include_in_schema=False, prefix="/account")

Reader = Annotated[Identity | None, Depends(identity_if_any("session"))]
Deed = Callable[[Services, Mapping[str, str], Identity | None], Awaitable[str]]
"""Does what a form asks for; the name of the text that says so."""

_MAX_TOKEN = 200


async def _confirm(services: Services, form: Mapping[str, str], caller: Identity | None) -> str:
    if form.get("action") == "drop":
        await services.emails.confirm(form["token"], typed=await _typed(services, form))
        return "drop.done"
    password = form.get("password") or None
    if password is None and caller is None:
        # An empty field must not cost somebody what is in their account.
        raise _refusal("password", "password_needed")
    proof = caller if password is None else None
    await services.emails.confirm(form["token"], password=password, caller=proof)
    return "confirm.done"


async def _reset(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.recovery.reset(form["token"], form.get("new_password", ""))
    return "reset.done"


async def _undo(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.emails.undo(form["token"], typed=await _typed(services, form))
    return "undo.done"


async def _accept(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.recovery.accept(form["token"], form.get("password", ""), name=None)
    return "invitation.done"


async def _forgot(services: Services, form: Mapping[str, str], _: Identity | None) -> str:
    await services.requests.ask("reset", parse_email(form.get("email", "")))
    return "forgot.done"


async def _typed(services: Services, form: Mapping[str, str]) -> EmailAddress:
    try:
        return parse_email(form.get("email", ""))
    except InvalidInput:
        # No second try at an address helps where the link is dead.
        await services.emails.require_link(form["token"])
        raise


def _refusal(field: str, code: str) -> InvalidInput:
    return InvalidInput(InputError(("body", field), code, "is refused"))


def _choosing(name: str, field: str) -> Page:
    return Page(name, field, "new_password", autocomplete="new-password", hint="at_least")


PAGES: Mapping[str, tuple[Page, Deed]] = {
    page.name: (page, deed)
    for page, deed in (
        (
            Page(
                "confirm",
                "password",
                "password",
                autocomplete="current-password",
                required=False,
                drops=True,
            ),
            _confirm,
        ),
        (_choosing("reset", "new_password"), _reset),
        (Page("undo", "email", "undo.email", type="email", autocomplete="email"), _undo),
        (_choosing("invitation", "password"), _accept),
        (
            Page("forgot", "email", "email", type="email", autocomplete="email", needs_token=False),
            _forgot,
        ),
    )
}


def _add(page: Page, deed: Deed) -> None:
    async def show(request: Request) -> Response:
        token = link_secret(request)
        if page.needs_token and not 0 < len(token) <= _MAX_TOKEN:
            return render(request, page, status=400, error="invalid_one_time_secret", usable=False)
        return render(request, page, token=token)

    async def submit(request: Request, caller: Reader) -> Response:
        check_origin(request)
        form = await read_form(request)
        token = form.get("token", "")
        typed = form.get("email", "")
        at: At = "drop" if form.get("action") == "drop" else "field"
        services = context_of(request).runtime.services
        try:
            if page.type == "password" and is_too_long(form.get(page.field or "", "")):
                raise _refusal(page.field or "", "password_too_long")
            if page.needs_token and not 0 < len(token) <= _MAX_TOKEN:
                raise InvalidOneTimeSecret
            done = await deed(services, form | {"token": token}, caller)
        except InvalidInput as refusal:
            code = refusal.errors[0].code
            return render(request, page, status=422, token=token, typed=typed, error=code, at=at)
        except (WrongPassword, ProofRequired) as refusal:
            return render(request, page, status=403, token=token, error=refusal.code, at="field")
        except (InvalidOneTimeSecret, EmailTaken) as refusal:
            status = status_of(refusal)
            return render(request, page, status=status, error=refusal.code, usable=False)
        except (TooManyAttempts, Unavailable) as refusal:
            answer = render(
                request,
                page,
                status=status_of(refusal),
                token=token,
                typed=typed,
                error=refusal.code,
            )
            answer.headers["retry-after"] = str(refusal.retry_after)
            return answer
        if caller is not None and await has_ended(services.database, caller):
            context_of(request).discard(caller)
        return render(request, page, done=done)

    router.add_api_route(f"/{page.name}", show, methods=["GET"])
    router.add_api_route(f"/{page.name}", submit, methods=["POST"])


for _page, _deed in PAGES.values():
    _add(_page, _deed)


@router.get("/page.css")
async def stylesheet() -> Response:
    """The style of the pages."""
    return style()
