"""/console/keys: the keys that sign JWTs, and the buttons that rotate and retire them."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from starlette.responses import Response

from authapi.clock import now
from authapi.domain.signing_key import KeyState, StoredKey
from authapi.errors import ConfigurationError, MalformedRequest, NotFound, Unavailable
from authapi.web.pages import addresses
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.console.caller import (
    CHANGER,
    Administrator,
    router_for,
    sent,
    shown,
)
from authapi.web.routes.pages.flow import Sent, invalid, perform

router = router_for("/keys")

_PAGE = "keys"
_MAX_KID_LENGTH = 100
_STATES = ("next", "active", "retiring", "retired")
"""In the order of the list."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """A key, as the page shows it."""

    stored: StoredKey
    state: str
    """`next`, `active`, `retiring` while tokens that it signed are valid, or `retired`."""


@shown(router, "")
async def show_keys(caller: Administrator) -> Response:
    """List the keys, the newest first."""
    return await _show(caller)


@sent(router, "")
async def change_keys(caller: Administrator, sent: Sent) -> Response:
    """Make the next key sign, or retire a key."""

    async def act() -> Response:
        action = sent.get("action")
        if not _signs(caller):
            raise NotFound
        if action == "rotate":
            return await _rotate(caller, sent)
        if action == "retire":
            return await _retire(caller, sent)
        raise MalformedRequest

    return await perform(caller.request, sent, act, partial(_show, caller), fields=PROOF_FIELDS)


async def _rotate(caller: Administrator, sent: Sent) -> Response:
    actor = await prove(caller, sent, CHANGER)
    async with _usable_keys():
        await caller.services.keys.rotate(actor=actor)
    return await caller.leads_to(_PAGE, "key-rotated")


async def _retire(caller: Administrator, sent: Sent) -> Response:
    kid = sent.get("kid").strip()
    keys = await caller.services.keys.list_stored()
    if len(kid) > _MAX_KID_LENGTH or kid not in {key.kid for key in keys}:
        raise invalid("kid", "kid_unknown")
    actor = await prove(caller, sent, CHANGER)
    async with _usable_keys():
        try:
            await caller.services.keys.lifecycle.retire(kid, actor=actor)
        except NotFound:  # another request was faster
            return await caller.leads_to(_PAGE, "key-gone")
    return await caller.leads_to(_PAGE, "key-retired")


@asynccontextmanager
async def _usable_keys() -> AsyncIterator[None]:
    """Raises Unavailable if this process cannot use the keys, as with another secret."""
    try:
        yield
    except ConfigurationError as error:
        _log.error("%s", error)
        raise Unavailable from None


async def _show(caller: Administrator, form: Form = EMPTY, status: int = 200) -> Response:
    signs, at = _signs(caller), now()
    keys = await caller.services.keys.list_stored() if signs else ()
    has_jwks = "well_known" in caller.runtime.units
    issuer = caller.services.settings.issuer
    return caller.render(
        "console-keys",
        status=status,
        form=form,
        needs=needs_of(caller, CHANGER),
        prove=addresses.page(caller.request, "prove", next=addresses.visible_path(caller.request)),
        signs=signs,
        keys=_listed(keys, at),
        jwks=f"{issuer}/.well-known/jwks.json" if has_jwks else None,
    )


def _signs(caller: Administrator) -> bool:
    """Whether this service signs JWTs."""
    return "jwt" in caller.runtime.registry


def _listed(keys: Sequence[StoredKey], at: datetime) -> Sequence[Key]:
    found = [Key(key, _state(key, at)) for key in reversed(keys)]
    return sorted(found, key=lambda key: _STATES.index(key.state))


def _state(key: StoredKey, at: datetime) -> str:
    if key.state is not KeyState.RETIRED:
        return key.state.value
    is_published = key.published_until is None or key.published_until > at
    return "retiring" if is_published else "retired"
