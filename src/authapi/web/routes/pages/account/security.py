"""/account/security: the password, the second step and the latest events."""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from authapi.domain.email_address import parse_email
from authapi.errors import MailDisabled
from authapi.web.pages.account.event_texts import event_lines
from authapi.web.pages.account.providers import connectable, connected, linked_to
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.passkeys import offers_passkeys
from authapi.web.routes.pages.account.sudo import needs_of, prove_code
from authapi.web.routes.pages.flow import Sent, perform
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account/security", tags=["pages"]
)

_OWNER = identity_if_configured("session", mfa="enrolled", writes="by_session")
"""The gate of a change of the password, which asks for the current one in any case."""
_EVENTS = 5


@shown(router, "", accepts_one_factor=True)
async def show_security(caller: Caller) -> Response:
    """Show what protects the account, and what happened last."""
    services, user = caller.services, caller.identity.user
    factors = await services.factors.changes.overview(user)
    linked = await linked_to(caller.runtime, user.id)
    events = await services.audit.page(user.id, before=None, limit=_EVENTS)
    return caller.render(
        "security",
        password=await services.accounts.passwords.state(user.id),
        factors=factors,
        can_add=services.settings.mfa != "off",
        needs_confirmation=services.settings.sends_mail and user.email_confirmed_at is None,
        offers_passkeys=offers_passkeys(caller.runtime),
        connected=connected(caller.runtime, linked),
        connectable=connectable(caller.runtime, linked),
        events=event_lines(caller.request, events),
    )


@shown(router, "/password")
async def show_password(caller: Caller) -> Response:
    """Show the form for a new password."""
    return await _show_password(caller)


@sent(router, "/password")
async def change_password(caller: Caller, sent: Sent) -> Response:
    """Change the password, or mail a link to an account without one."""
    services = caller.services

    async def mail_link() -> Response:
        if not services.settings.sends_mail:
            raise MailDisabled
        email = parse_email(caller.identity.user.email, allow_reserved=True)
        await services.accounts.deferred_requests.submit("reset", email)
        return await caller.leads_to("security", "reset-sent")

    async def act() -> Response:
        if needs_of(caller, _OWNER).code and "code" in sent.fields:
            await prove_code(caller, sent)
        await caller.passes(_OWNER)
        ended = await caller.renewing(
            lambda secret: services.accounts.passwords.change(
                caller.identity,
                current=sent.get("current_password"),
                new=sent.get("new_password"),
                new_secret_hash=secret,
            )
        )
        return await caller.leads_to("security", "password", ended)

    return await perform(
        caller.request,
        sent,
        mail_link if sent.get("action") == "mail" else act,
        partial(_show_password, caller),
        fields={"wrong_password": "current_password", "wrong_code": "code"},
    )


async def _show_password(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    state = await caller.services.accounts.passwords.state(caller.identity.user.id)
    return caller.render(
        "password",
        status=status,
        form=form,
        needs=needs_of(caller, _OWNER),
        has_password=state.is_set,
        sends_mail=caller.services.settings.sends_mail,
        email=caller.identity.user.email,
    )
