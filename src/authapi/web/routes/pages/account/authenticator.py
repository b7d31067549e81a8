"""/account/security/app and /account/security/codes: the authenticator app and recovery codes."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from authapi.errors import FactorExists, NotFound
from authapi.web.pages.account.flashes import Flash
from authapi.web.pages.account.secrets import app_values, codes_values
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.sudo import FRESH, PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.codes import digits_of
from authapi.web.routes.pages.flow import Sent, perform
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account/security", tags=["pages"]
)

_CONFIRM = identity_if_configured("session", accepts_one_factor=True, writes="by_session")
_HOLDER = identity_if_configured("session", fresh=True, mfa=True, writes="by_session")
"""The gate of new recovery codes."""


@shown(router, "/app", accepts_one_factor=True)
async def show_app(caller: Caller) -> Response:
    """Show how an authenticator app is set up."""
    return _show_start(caller)


@sent(router, "/app", accepts_one_factor=True)
async def set_up_app(caller: Caller, sent: Sent) -> Response:
    """Show the key of a new app; then confirm it by a code, and show the recovery codes."""
    is_confirmation = sent.get("action") == "confirm"

    async def show_again(form: Form, status: int) -> Response:
        if is_confirmation:
            return caller.render("app-confirm", status=status, form=form)
        return _show_start(caller, form, status)

    async def begin() -> Response:
        enrolment = await caller.services.factors.totp.begin(await prove(caller, sent))
        return caller.render("app", **await app_values(enrolment))

    async def confirm() -> Response:
        code = digits_of(sent.get("code"))
        await caller.passes(_CONFIRM)
        try:
            codes = await caller.renewing(
                lambda secret: caller.services.factors.totp.confirm(
                    caller.identity, code, new_secret_hash=secret
                )
            )
        except FactorExists:  # another tab has confirmed it
            return await caller.leads_to("security", "app-kept")
        except NotFound:
            return await caller.leads_to("security/app", "app-expired")
        if codes is None:
            return await caller.leads_to("security", "app-kept")
        return _show_codes(caller, codes, message="app-added")

    act = confirm if is_confirmation else begin
    return await perform(caller.request, sent, act, show_again, fields=PROOF_FIELDS)


@shown(router, "/app/remove", accepts_one_factor=True)
async def show_removal_of_app(caller: Caller) -> Response:
    """Ask whether to remove the authenticator app."""
    return await _show_removal(caller)


@sent(router, "/app/remove", accepts_one_factor=True)
async def remove_app(caller: Caller, sent: Sent) -> Response:
    """Remove the authenticator app."""

    async def act() -> Response:
        identity = await prove(caller, sent)
        try:
            await caller.services.factors.changes.remove_totp(identity)
        except NotFound:  # another tab has removed it
            return await caller.leads_to("security", "factor-gone")
        return await caller.leads_to("security", "app-removed")

    return await perform(
        caller.request, sent, act, partial(_show_removal, caller), fields=PROOF_FIELDS
    )


@shown(router, "/codes")
async def show_new_codes(caller: Caller) -> Response:
    """Ask whether to replace the recovery codes."""
    factors = await caller.services.factors.changes.overview(caller.identity.user)
    if factors.recovery_codes is None:
        return await caller.leads_to("security")
    return _show_renewal(caller)


@sent(router, "/codes")
async def make_new_codes(caller: Caller, sent: Sent) -> Response:
    """Replace the recovery codes, and show the new ones."""

    async def show_again(form: Form, status: int) -> Response:
        return _show_renewal(caller, form, status)

    async def act() -> Response:
        identity = await prove(caller, sent, _HOLDER)
        codes = await caller.services.factors.changes.new_recovery_codes(identity)
        return _show_codes(caller, codes)

    return await perform(caller.request, sent, act, show_again, fields=PROOF_FIELDS)


def _show_start(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    return caller.render("app-start", status=status, form=form, needs=needs_of(caller, FRESH))


async def _show_removal(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    factors = await caller.services.factors.changes.overview(caller.identity.user)
    if factors.totp is None:
        return await caller.leads_to("security")
    return caller.render(
        "app-remove",
        status=status,
        form=form,
        needs=needs_of(caller, FRESH),
        is_last=not factors.passkeys,
        is_required=factors.required,
    )


def _show_renewal(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    return caller.render("codes-new", status=status, form=form, needs=needs_of(caller, _HOLDER))


def _show_codes(caller: Caller, codes: Sequence[str], message: str | None = None) -> Response:
    caller.message = None if message is None else Flash(message)
    return caller.render("codes", **codes_values(codes, caller.services.settings))
