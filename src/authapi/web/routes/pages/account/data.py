"""/account/data: a file with everything about the account, and the deletion of the account."""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from authapi.clock import now
from authapi.domain.email_address import parse_email, stored_email
from authapi.errors import InvalidInput
from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.rendering import EMPTY, Form, see_other
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.export import export_file
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.sudo import (
    PROOF_FIELDS,
    needs_of,
    prove,
    prove_code,
    prove_password,
)
from authapi.web.routes.pages.flow import Sent, invalid, perform
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account/data", tags=["pages"]
)

_OWNER = identity_if_configured("session")
_LEAVER = identity_if_configured("session", fresh=True, mfa="enrolled", writes="uncounted")


@shown(router, "")
async def show_data(caller: Caller) -> Response:
    """Show what the owner can do with the data of the account."""
    return caller.render("data")


@shown(router, "/export")
async def export(caller: Caller) -> Response:
    """Send the file."""
    identity = await caller.passes(_OWNER)
    name = f"authapi-export-{now():%Y-%m-%d}.json"
    return await export_file(caller.request, identity, name=name)


@shown(router, "/delete")
async def show_deletion(caller: Caller) -> Response:
    """Say what goes and what stays, and show the form."""
    return await _show(caller)


@sent(router, "/delete")
async def delete(caller: Caller, sent: Sent) -> Response:
    """Delete the account."""

    async def act() -> Response:
        _check_address(caller, sent)
        services, user = caller.services, caller.identity.user
        if (await services.accounts.passwords.state(user.id)).is_set:
            await _prove_again(caller, sent)
            identity = await caller.passes(_LEAVER)
        else:
            identity = await prove(caller, sent, _LEAVER)
        await services.accounts.deletion.delete_own(identity)
        context_of(caller.request).discard(identity)
        return see_other(addresses.sign_in(caller.request, done="deleted") or "./")

    return await perform(
        caller.request,
        sent,
        act,
        partial(_show, caller),
        fields=PROOF_FIELDS,
    )


def _check_address(caller: Caller, sent: Sent) -> None:
    """Raises InvalidInput if the address that was typed is not that of the account."""
    own = stored_email(caller.identity.user.email).canonical
    try:
        typed = parse_email(sent.get("email").strip(), allow_reserved=True).canonical
    except InvalidInput:
        typed = None
    if typed != own:
        raise invalid("email", "wrong_own_address")


async def _prove_again(caller: Caller, sent: Sent) -> None:
    """Verifies the password, however recent the login is, and a code if the login lacks one.

    Raises as `prove_password` and `prove_code`.
    """
    await prove_password(caller, sent)
    if needs_of(caller, _LEAVER).code:
        await prove_code(caller, sent)


async def _show(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    state = await caller.services.accounts.passwords.state(caller.identity.user.id)
    return caller.render(
        "delete",
        status=status,
        form=form,
        has_password=state.is_set,
        needs=needs_of(caller, _LEAVER),
        keeps_events=caller.services.settings.deleted_events == "anonymise",
    )
