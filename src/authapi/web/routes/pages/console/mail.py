"""/console/mail: the mail that waits, or was given up, and a test mail."""

from functools import partial

from starlette.responses import Response

from authapi.errors import MalformedRequest
from authapi.services.mail import OUTBOX_KIND
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

router = router_for("/mail")

_PAGE = "mail"


@shown(router, "")
async def show_mail(caller: Administrator) -> Response:
    """Show the state of the queue, and what it contains."""
    return await _show(caller)


@sent(router, "")
async def change_mail(caller: Administrator, sent: Sent) -> Response:
    """Try mail again, or send a test mail to the superuser."""

    async def act() -> Response:
        action = sent.get("action")
        if action not in {"test", "retry"} and ENTRY not in sent.fields:
            raise MalformedRequest
        actor = await prove(caller, sent, CHANGER)
        if action == "test":
            await caller.services.queues.send_test_mail(actor=actor)
            return await caller.leads_to(_PAGE, "mail-tested")
        if action == "retry":
            return await retry_all(caller, actor, OUTBOX_KIND, _PAGE)
        return await retry_entry(caller, actor, sent, OUTBOX_KIND, _PAGE)

    return await perform(caller.request, sent, act, partial(_show, caller), fields=PROOF_FIELDS)


async def _show(caller: Administrator, form: Form = EMPTY, status: int = 200) -> Response:
    return caller.render(
        "console-mail",
        status=status,
        form=form,
        kept=("show", "after"),
        needs=needs_of(caller, CHANGER),
        sends_mail=caller.services.settings.sends_mail,
        state=await caller.services.queues.state(OUTBOX_KIND),
        list=await listing(caller, OUTBOX_KIND, _PAGE),
        email=caller.identity.user.email,
    )
