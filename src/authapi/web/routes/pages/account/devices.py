"""/account/devices: where the account is signed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from authapi.clock import now
from authapi.domain.session import Session
from authapi.errors import NotFound
from authapi.web.pages.account.device_names import device_name
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.pages.site import site_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.paging import page_of
from authapi.web.routes.pages.flow import Sent, perform
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

_OWNER = identity_if_configured("session", writes="uncounted")
_ACTIVE = timedelta(minutes=5)
"""How long after its last use a device counts as one that is used now."""


@dataclass(frozen=True, slots=True)
class Device:
    """A login, as the page shows it."""

    session: Session
    name: str
    is_current: bool
    is_active: bool


@shown(router, "/devices")
async def show_devices(caller: Caller) -> Response:
    """List the logins of the account: that of this browser, then the last used ones."""
    return await _show(caller)


@sent(router, "/devices")
async def sign_out_devices(caller: Caller, sent: Sent) -> Response:
    """Sign out one device, or all others."""
    sessions = caller.services.sessions

    async def act() -> Response:
        identity = await caller.passes(_OWNER)
        if sent.get("action") == "others":
            ended = await sessions.end_others(identity)
            return await caller.leads_to("devices", "devices-ended", ended)
        wanted = _id_of(sent)
        if wanted is not None and wanted == identity.session_id:
            # Signing out here also deletes what the browser keeps.
            return await caller.leads_to("sign-out")
        try:
            if wanted is None:
                raise NotFound
            await sessions.end_own(wanted, identity)
        except NotFound:
            return await caller.leads_to("devices", "device-gone")
        return await caller.leads_to("devices", "device-ended")

    return await perform(caller.request, sent, act, partial(_show, caller))


def _id_of(sent: Sent) -> UUID | None:
    try:
        return UUID(sent.get("id"))
    except ValueError:
        return None


async def _show(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    devices = _devices(
        caller, await caller.services.sessions.list_for_user(caller.identity.user.id)
    )
    page = page_of(caller.request, devices)
    return caller.render(
        "devices",
        status=status,
        form=form,
        devices=page.items,
        others=len(devices) - 1,
        newer=page.newer,
        older=page.older,
    )


def _devices(caller: Caller, sessions: Sequence[Session]) -> Sequence[Device]:
    request, current, at = caller.request, caller.identity.session_id, now()
    site, language = site_of(request), language_of(request)
    devices = [
        Device(
            session=session,
            name=device_name(site, language, session.client.user_agent),
            is_current=session.id == current,
            is_active=at - session.last_seen_at < _ACTIVE,
        )
        for session in sessions
    ]
    return sorted(devices, key=lambda it: (it.is_current, it.session.last_seen_at), reverse=True)
