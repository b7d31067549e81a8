"""/account/security/providers: connects accounts at other providers, and disconnects them."""

from functools import partial
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from authapi.domain.federation.flow import FlowIntent
from authapi.domain.federation.person import LinkedIdentity
from authapi.errors import NotFound
from authapi.web.federation.beginning import upstream_of
from authapi.web.pages import addresses
from authapi.web.pages.account.providers import title_of
from authapi.web.pages.rendering import EMPTY, Form, see_other
from authapi.web.routes.federation.going import lead_to_provider
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.flow import Sent, perform
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account/security", tags=["pages"]
)


@shown(router, "/providers/{name}")
async def show_connect(caller: Caller) -> Response:
    """Show the form that connects an account at a provider."""
    return await _show_connect(caller)


@sent(router, "/providers/{name}")
async def connect(caller: Caller, sent: Sent) -> Response:
    """Begin to connect an account at a provider: lead the browser there."""
    name = _provider_of(caller)

    async def act() -> Response:
        identity = await prove(caller, sent)
        back = addresses.visible_path(caller.request, f"{addresses.PREFIX}/security")
        return await lead_to_provider(
            caller.request, identity, name, FlowIntent.LINK, f"{back}?done=connected"
        )

    return await perform(
        caller.request, sent, act, partial(_show_connect, caller), fields=PROOF_FIELDS
    )


@shown(router, "/identities/{identity_id:uuid}")
async def show_identity(caller: Caller) -> Response:
    """Show one connected account, with the form that disconnects it."""
    return await _show_identity(caller)


@sent(router, "/identities/{identity_id:uuid}")
async def disconnect(caller: Caller, sent: Sent) -> Response:
    """Disconnect an account at a provider."""

    async def act() -> Response:
        identity = await prove(caller, sent)
        await caller.services.federation.links.unlink(identity, _id_of(caller))
        return await caller.leads_to("security", "identity-removed")

    try:
        return await perform(
            caller.request, sent, act, partial(_show_identity, caller), fields=PROOF_FIELDS
        )
    except NotFound:
        return await caller.leads_to("security", "identity-gone")


async def _show_connect(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    name = _provider_of(caller)
    return caller.render(
        "provider",
        status=status,
        form=form,
        key=name,
        provider=title_of(caller.runtime, name),
        needs=needs_of(caller),
    )


async def _show_identity(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    found = await _find(caller)
    if found is None:
        return see_other(caller.address("security"))
    return caller.render(
        "identity",
        status=status,
        form=form,
        identity=found,
        provider=title_of(caller.runtime, found.provider),
        needs=needs_of(caller),
    )


async def _find(caller: Caller) -> LinkedIdentity | None:
    wanted = _id_of(caller)
    linked = await caller.services.federation.links.list_of(caller.identity.user.id)
    return next((it for it in linked if it.id == wanted), None)


def _provider_of(caller: Caller) -> str:
    """Returns the provider in the path. Raises ProviderUnknown."""
    return upstream_of(caller.runtime, str(caller.request.path_params["name"])).name


def _id_of(caller: Caller) -> UUID:
    found: UUID = caller.request.path_params["identity_id"]
    return found
