"""/account/security/passkeys: adds, renames and removes passkeys."""

from functools import partial
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from authapi.domain.display_names import is_display_name
from authapi.domain.factors.passkeys import Passkey
from authapi.errors import NotFound
from authapi.services.factors.webauthn.relying_party import can_add_passkeys
from authapi.web.context import Runtime
from authapi.web.pages import addresses
from authapi.web.pages.account.device_names import device_name
from authapi.web.pages.account.flashes import Flash
from authapi.web.pages.account.secrets import codes_values
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import EMPTY, Form, see_other
from authapi.web.pages.site import site_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.sudo import FRESH, PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.credentials import attestation_of
from authapi.web.routes.pages.flow import Sent, invalid, perform
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account/security", tags=["pages"]
)

_WRITER = identity_if_configured("session", writes="by_session")
_MAX_NAME = 100
"""Characters of the name of a passkey, as in the API."""


def offers_passkeys(runtime: Runtime) -> bool:
    """Whether accounts can add passkeys on a page: its script gets the options from the API."""
    return "factors" in runtime.units and can_add_passkeys(runtime.services.settings)


@shown(router, "/passkeys", accepts_one_factor=True)
async def show_new_passkey(caller: Caller) -> Response:
    """Show the form for a new passkey, whose button needs the script."""
    return _show_new(caller)


@sent(router, "/passkeys", accepts_one_factor=True)
async def add_passkey(caller: Caller, sent: Sent) -> Response:
    """Add a passkey; with the first second factor, show the recovery codes."""
    services = caller.services

    async def show_again(form: Form, status: int) -> Response:
        return _show_new(caller, form, status)

    async def act() -> Response:
        name, attestation = _name_of(sent), attestation_of(sent)
        await caller.passes(FRESH)
        added = await caller.renewing(
            lambda secret: services.factors.passkeys.add(
                caller.identity, attestation, name, new_secret_hash=secret
            )
        )
        if added.recovery_codes is None:
            return await caller.leads_to("security", "passkey-added")
        caller.message = Flash("passkey-added")
        return caller.render("codes", **codes_values(added.recovery_codes, services.settings))

    return await perform(caller.request, sent, act, show_again)


@shown(router, "/passkeys/{passkey_id:uuid}")
async def show_passkey(caller: Caller) -> Response:
    """Show one passkey, with the forms that rename and remove it."""
    return await _show(caller)


@sent(router, "/passkeys/{passkey_id:uuid}")
async def change_passkey(caller: Caller, sent: Sent) -> Response:
    """Rename or remove a passkey."""
    passkey_id, passkeys = _id_of(caller), caller.services.factors.passkeys
    is_removal = sent.get("action") == "remove"

    async def rename() -> Response:
        name, identity = _name_of(sent), await caller.passes(_WRITER)
        await passkeys.rename(identity, passkey_id, name)
        return await caller.leads_to("security", "passkey-renamed")

    async def remove() -> Response:
        await passkeys.remove(await prove(caller, sent), passkey_id)
        return await caller.leads_to("security", "passkey-removed")

    try:
        act = remove if is_removal else rename
        return await perform(
            caller.request,
            sent,
            act,
            partial(_show, caller, is_removal=is_removal),
            fields=PROOF_FIELDS,
        )
    except NotFound:  # another tab has removed it
        return await caller.leads_to("security", "factor-gone")


def _show_new(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    request = caller.request
    if not offers_passkeys(caller.runtime):
        return see_other(addresses.page(request, "security"))
    agent = request.headers.get("user-agent")
    name = device_name(site_of(request), language_of(request), agent)
    return caller.render(
        "passkey-new",
        status=status,
        form=Form({"name": name, **form.values}, form.errors, form.problem),
        needs=needs_of(caller, FRESH),
        prove=addresses.page(request, "prove", next=addresses.visible_path(request)),
    )


async def _show(
    caller: Caller, form: Form = EMPTY, status: int = 200, *, is_removal: bool = False
) -> Response:
    passkey = await _find(caller)
    if passkey is None:
        return await caller.leads_to("security")
    return caller.render(
        "passkey",
        status=status,
        form=Form({"name": passkey.name, **form.values}, form.errors, form.problem),
        passkey=passkey,
        needs=needs_of(caller, FRESH),
        is_removal=is_removal,
    )


async def _find(caller: Caller) -> Passkey | None:
    factors = await caller.services.factors.changes.overview(caller.identity.user)
    wanted = _id_of(caller)
    return next((item for item in factors.passkeys if item.id == wanted), None)


def _id_of(caller: Caller) -> UUID:
    found: UUID = caller.request.path_params["passkey_id"]
    return found


def _name_of(sent: Sent) -> str:
    name = sent.get("name").strip()
    if len(name) > _MAX_NAME or not is_display_name(name):
        raise invalid("name", "passkey_name_invalid")
    return name
