"""/console/webhooks: the receivers of events, what waits for them, and a test of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.errors import DeliveryFailed, MalformedRequest, NotFound
from authapi.services.queues.administration import QueueState
from authapi.services.webhooks import KIND
from authapi.settings.descriptions import origin_of
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.console.caller import (
    CHANGER,
    Administrator,
    router_for,
    sent,
    shown,
)
from authapi.web.routes.pages.console.undelivered import ENTRY, listing, retry_all, retry_entry
from authapi.web.routes.pages.flow import Sent, perform

router = router_for("/webhooks")

_PAGE = "webhooks"
_MAX_RECEIVER_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Receiver:
    """A URL that events are sent to, or were sent to before the settings changed."""

    id: str
    number: int
    """The position of the URL in the settings, from 1; 0 if it is configured no longer."""
    origin: str
    """The URL without its path, which may contain a secret of the receiver."""
    state: QueueState


@shown(router, "")
async def show_webhooks(caller: Administrator) -> Response:
    """Show each receiver, and what waits for it."""
    return await _show(caller)


@sent(router, "")
async def change_webhooks(caller: Administrator, sent: Sent) -> Response:
    """Send a test event to a receiver, or try deliveries again."""

    async def act() -> Response:
        buttons = [name for name in ("test", "retry", ENTRY) if name in sent.fields]
        if len(buttons) != 1 or len(sent.get(buttons[0])) > _MAX_RECEIVER_LENGTH:
            raise MalformedRequest
        [button] = buttons
        actor = await prove(caller, sent, CHANGER)
        if button == "test":
            return await _test(caller, actor, sent.get(button))
        if button == "retry":
            return await retry_all(caller, actor, KIND, _PAGE, receiver=sent.get(button))
        return await retry_entry(caller, actor, sent, KIND, _PAGE)

    return await perform(caller.request, sent, act, partial(_show, caller), fields=PROOF_FIELDS)


async def _test(caller: Administrator, actor: Identity, receiver: str) -> Response:
    try:
        status = await caller.services.queues.test_webhook(receiver, actor=actor)
    except NotFound:
        return await caller.leads_to(_PAGE, "webhook-gone")
    except DeliveryFailed:
        return await caller.leads_to(_PAGE, "webhook-silent")
    if not 200 <= status < 300:
        return await caller.leads_to(_PAGE, "webhook-refused", status)
    return await caller.leads_to(_PAGE, "webhook-tested")


async def _show(caller: Administrator, form: Form = EMPTY, status: int = 200) -> Response:
    receivers = await _receivers(caller)
    return caller.render(
        "console-webhooks",
        status=status,
        form=form,
        kept=("show", "after"),
        needs=needs_of(caller, CHANGER),
        receivers=receivers,
        origins={receiver.id: receiver.origin for receiver in receivers},
        list=await listing(caller, KIND, _PAGE),
    )


async def _receivers(caller: Administrator) -> Sequence[Receiver]:
    """Returns the configured receivers in their order, and then others with entries."""
    states = await caller.services.queues.states(KIND)
    configured = caller.services.webhooks.receivers
    found = [
        Receiver(key, number, origin_of(url), states.get(key, QueueState()))
        for number, (key, url) in enumerate(configured.items(), 1)
    ]
    others = [
        Receiver(key, 0, "", state)
        for key, state in sorted(states.items())
        if key not in configured and (state.waiting or state.given_up)
    ]
    return [*found, *others]
