"""/account: the profile. Each form of the page names its action in a field."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from authapi.domain.email_address import parse_email
from authapi.domain.user import User
from authapi.domain.username import parse_username
from authapi.errors import MailDisabled
from authapi.services.usernames import UNCHANGED
from authapi.web.pages.account.times import long_date
from authapi.web.pages.languages import language_names
from authapi.web.pages.names import optional_name
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, Needs, needs_of, prove
from authapi.web.routes.pages.flow import Sent, invalid, perform, typed_address
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

_WRITER = identity_if_configured("session", writes="by_account")
_OWNER = identity_if_configured("session", fresh=True, mfa="enrolled", writes="by_account")
_CANCELLER = identity_if_configured("session", writes="uncounted")

_FIELDS: Mapping[str, str] = {
    **PROOF_FIELDS,
    "username_taken": "username",
}


@shown(router, "")
async def show_profile(caller: Caller) -> Response:
    """Show the profile."""
    return await _show(caller)


@sent(router, "")
async def change_profile(caller: Caller, sent: Sent) -> Response:
    """Change the name, the user name, the language or the address."""
    name = sent.get("action")
    action = _ACTIONS.get(name)
    if action is None:
        return await caller.leads_to("")

    async def act() -> Response:
        return await caller.leads_to("", await action(caller, sent))

    return await perform(
        caller.request, sent, act, partial(_show, caller, changing=name), fields=_FIELDS
    )


async def _rename(caller: Caller, sent: Sent) -> str:
    identity = await caller.passes(_WRITER)
    await caller.services.accounts.profiles.edit(
        identity.user.id,
        {"name": optional_name(sent.get("name"))},
        is_stale=_staleness(sent),
        caller=identity,
    )
    return "name"


async def _change_username(caller: Caller, sent: Sent) -> str:
    identity = await caller.passes(_WRITER)
    text = sent.get("username").strip()
    if not text and caller.services.settings.login_identifier == "username":
        raise invalid("username", "username_required")
    username = parse_username(text) if text else None
    await caller.services.accounts.profiles.edit(
        identity.user.id,
        {},
        username=UNCHANGED if username is None and identity.user.username is None else username,
        is_stale=_staleness(sent),
        caller=identity,
    )
    return "username"


async def _change_language(caller: Caller, sent: Sent) -> str:
    identity = await caller.passes(_WRITER)
    await caller.services.accounts.profiles.edit(
        identity.user.id,
        {"locale": sent.get("locale") or None},
        is_stale=_staleness(sent),
        caller=identity,
    )
    return "language"


async def _change_address(caller: Caller, sent: Sent) -> str:
    services = caller.services
    if not services.settings.sends_mail:
        raise MailDisabled
    email = typed_address(caller.request, sent)
    identity = await prove(caller, sent, _OWNER)
    await services.accounts.email_changes.request_email_change(identity, email, password=None)
    return "email-asked"


async def _cancel_change(caller: Caller, _: Sent) -> str:
    identity = await caller.passes(_CANCELLER)
    await caller.services.accounts.email_changes.cancel_change(identity)
    return "email-cancelled"


async def _send_confirmation(caller: Caller, _: Sent) -> str:
    services = caller.services
    email = parse_email(caller.identity.user.email, allow_reserved=True)
    await services.accounts.deferred_requests.submit("confirm", email)
    return "confirmation-sent"


_ACTIONS: Mapping[str, Callable[[Caller, Sent], Awaitable[str]]] = {
    "name": _rename,
    "username": _change_username,
    "language": _change_language,
    "email": _change_address,
    "cancel": _cancel_change,
    "confirm": _send_confirmation,
}
"""What a form does, by the name of its action. Each returns the code of a message."""


def _staleness(sent: Sent) -> Callable[[User], bool]:
    """Returns a function that says whether an account has changed since the form was shown."""
    return lambda user: _version(user) != sent.get("version")


def _version(user: User) -> str:
    # Each change of an account has a later time.
    return user.updated_at.isoformat()


async def _show(
    caller: Caller, form: Form = EMPTY, status: int = 200, *, changing: str = ""
) -> Response:
    user, services = caller.identity.user, caller.services
    settings, language = services.settings, language_of(caller.request)
    pending = None
    if settings.sends_mail:
        pending = await services.accounts.email_changes.pending_change(user)
    values = {"name": user.name or "", "username": user.username or "", **form.values}
    return caller.render(
        "account",
        status=status,
        form=Form(values, form.errors, form.problem),
        changing=changing,
        version=_version(user),
        needs=needs_of(caller, _OWNER) if settings.sends_mail else Needs(),
        pending=pending,
        sends_mail=settings.sends_mail,
        identifier=settings.login_identifier,
        since=long_date(user.created_at, language),
        locales=language_names(settings.locales),
    )
