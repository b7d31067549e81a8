"""The pages behind the links in mails: /account/confirm, reset, undo, disown and invitation.

A GET request changes nothing, because mail scanners follow links. Some scanners also submit forms,
so a form requires typed input: a password, or an address that the page does not contain. The page
`confirm` requires none of a person who is signed in to the account, which a scanner is not.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.email_token import Purpose
from authapi.domain.identity import Identity
from authapi.errors import InvalidOneTimeSecret, LoginExpired
from authapi.services import Services
from authapi.services.accounts.email_tokens import MailedLink
from authapi.services.revalidation import has_session_ended
from authapi.web.context import context_of
from authapi.web.federation.ticket_cookie import discard_ticket, read_ticket
from authapi.web.middleware.link_secrets import link_secret
from authapi.web.pages import addresses
from authapi.web.pages.address_cookie import keep_address
from authapi.web.pages.names import optional_name
from authapi.web.pages.reader import named_language
from authapi.web.pages.rendering import EMPTY, Form, render, see_other, sentence
from authapi.web.routes.pages.federation.address import go_on
from authapi.web.routes.pages.flow import (
    OptionalCaller,
    Sent,
    invalid,
    perform,
    receive_from_caller,
    typed_address,
)
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

_MAX_TOKEN_LENGTH = 200
_WITHOUT_PASSWORD = "without_password"
"""Value of the second button of the page `confirm`."""
_WITH_PROVIDER = "with_provider"
"""Value of the button that completes a login at a provider, which waits in this browser."""
_AGAIN = "again"
"""Value of the button that sends another mail."""


@dataclass(frozen=True, slots=True)
class _Redemption:
    """A form that was sent, for a link that works."""

    request: Request
    sent: Sent
    token: str
    link: MailedLink
    caller: Identity | None

    @property
    def services(self) -> Services:
        """The services of the installation."""
        return context_of(self.request).runtime.services


async def _confirm(it: _Redemption) -> str | Response:
    changes = it.services.accounts.email_changes
    if it.sent.get("action") == _WITHOUT_PASSWORD:
        await changes.confirm_email(it.token, entered_email=typed_address(it.request, it.sent))
        return "taken-over"
    ticket = read_ticket(it.request)
    if it.sent.get("action") == _WITH_PROVIDER and ticket is not None:
        federation = it.services.federation
        found = await federation.addresses.confirm(ticket, it.token, request=it.request)
        return await go_on(it.request, found)
    password = it.sent.get("password") or None
    if password is None and it.caller is None:
        # Without this check, submitting an empty field by mistake would remove the content of the
        # account.
        raise invalid("password", "password_needed")
    caller = it.caller if password is None else None
    await changes.confirm_email(it.token, password=password, caller=caller)
    return "confirmed"


async def _reset(it: _Redemption) -> str:
    await it.services.accounts.passwords.reset(it.token, it.sent.get("new_password"))
    return "reset"


async def _undo(it: _Redemption) -> str:
    email = typed_address(it.request, it.sent)
    await it.services.accounts.email_changes.revert_email_change(it.token, entered_email=email)
    return "undone"


async def _disown(it: _Redemption) -> str:
    await it.services.accounts.new_devices.disown(it.token)
    return "disowned"


async def _accept(it: _Redemption) -> str:
    name = optional_name(it.sent.get("name"))
    await it.services.accounts.invitations.accept(it.token, it.sent.get("password"), name=name)
    return "invited"


@dataclass(frozen=True, slots=True)
class _Page:
    """A page behind a link."""

    purposes: tuple[Purpose, ...]
    act: Callable[[_Redemption], Awaitable[str | Response]]
    """Performs the form, and returns the outcome, or the response that leads on."""
    fields: Mapping[str, str]
    """The fields that codes of errors are about."""
    sets_password: bool = False
    """Whether the person signs in next, with the password that they have chosen here."""


PAGES: Mapping[str, _Page] = {
    "confirm": _Page(
        (Purpose.CONFIRM, Purpose.CHANGE),
        _confirm,
        {"wrong_password": "password", "proof_required": "password"},
    ),
    "reset": _Page((Purpose.RESET,), _reset, {}, sets_password=True),
    "undo": _Page((Purpose.REVERT_EMAIL_CHANGE,), _undo, {}),
    "disown": _Page((Purpose.DISOWN,), _disown, {}),
    "invitation": _Page((Purpose.INVITATION,), _accept, {}, sets_password=True),
}
_MAILED = frozenset({"taken-over", "undone"})
"""The outcomes with another mail."""
_OUTCOMES = frozenset({"confirmed", "taken-over", "reset", "undone", "disowned", "invited"})


def _add_routes(name: str, page: _Page) -> None:
    async def show(request: Request, caller: OptionalCaller) -> Response:
        token = link_secret(request)
        if not token and request.query_params.get("done") in _OUTCOMES:
            return _show_done(request)
        try:
            link = await _find(request, token, page)
        except InvalidOneTimeSecret:
            return _show_dead(request, name)
        return _show_form(request, name, token, link, caller)

    async def submit(request: Request) -> Response:
        return await receive_from_caller(request, partial(act_on, request))

    async def act_on(request: Request, sent: Sent, caller: Identity | None) -> Response:
        services, token = context_of(request).runtime.services, sent.get("token")
        if name == "confirm" and sent.get("action") == _AGAIN:
            return await _send_again(request, sent)

        async def show_again(form: Form, status: int) -> Response:
            link = await _find(request, token, page)
            return _show_form(request, name, token, link, caller, form, status)

        async def act() -> Response:
            link = await _find(request, token, page)
            outcome = await page.act(_Redemption(request, sent, token, link, caller))
            if isinstance(outcome, Response):
                return outcome
            if caller is not None and await has_session_ended(services.database, caller):
                context_of(request).discard(caller)
            return _lead_on(request, name, page, outcome, link)

        try:
            return await perform(request, sent, act, show_again, fields=page.fields)
        except InvalidOneTimeSecret:
            return _show_dead(request, name)
        except LoginExpired:  # of the provider
            location = addresses.page(request, "sign-in", done="expired")
            return see_other(location, headers=discard_ticket(request))

    router.add_api_route(f"/{name}", show, methods=["GET"])
    router.add_api_route(f"/{name}", submit, methods=["POST"])


async def _find(request: Request, token: str, page: _Page) -> MailedLink:
    if not 0 < len(token) <= _MAX_TOKEN_LENGTH:
        raise InvalidOneTimeSecret
    services = context_of(request).runtime.services
    return await services.accounts.mailed_links.find(token, *page.purposes)


def _show_form(
    request: Request,
    name: str,
    token: str,
    link: MailedLink,
    caller: Identity | None,
    form: Form = EMPTY,
    status: int = 200,
) -> Response:
    if name == "invitation" and "name" not in form.values:
        form = Form({**form.values, "name": link.name or ""}, form.errors, form.problem)
    values: dict[str, Any] = {"token": token, "account": link.email}
    if name == "confirm":
        values["is_owner"] = caller is not None and caller.user.id == link.user_id
        values["email"] = link.email
        # A mail scanner has no cookie, so the form needs no typed input.
        values["has_ticket"] = read_ticket(request) is not None
        values["can_take_over"] = link.purpose is Purpose.CONFIRM
    return render(request, name, status=status, form=form, **values)


def _show_dead(request: Request, name: str, form: Form = EMPTY, status: int = 400) -> Response:
    problem = form.problem or sentence(request, "invalid_one_time_secret")
    return render(request, "dead-link", status=status, form=form, kind=name, problem=problem)


def _show_done(request: Request) -> Response:
    return render(
        request,
        "done",
        is_mailed=request.query_params.get("done") in _MAILED,
        offers_reset=request.query_params.get("done") == "disowned",
        sent_to=None,
        send_again=None,
    )


def _lead_on(request: Request, name: str, page: _Page, outcome: str, link: MailedLink) -> Response:
    headers, language = keep_address(request, link.email), named_language(request)
    if page.sets_password and "signin" in context_of(request).runtime.units:
        return see_other(
            addresses.page(request, "sign-in", done=outcome, lang=language), headers=headers
        )
    return see_other(addresses.page(request, name, done=outcome, lang=language))


async def _send_again(request: Request, sent: Sent) -> Response:
    services = context_of(request).runtime.services

    async def show_again(form: Form, status: int) -> Response:
        return _show_dead(request, "confirm", form, status)

    async def act() -> Response:
        email = typed_address(request, sent)
        await services.accounts.deferred_requests.submit("confirm", email)
        return see_other(addresses.page(request, "forgot", done="sent"))

    return await perform(request, sent, act, show_again)


for _name, _page in PAGES.items():
    _add_routes(_name, _page)
