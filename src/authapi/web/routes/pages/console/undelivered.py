"""The lists of what the outbox has not delivered, and the button that tries one of them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.domain.outbox import OutboxEntry
from authapi.errors import NotFound
from authapi.web.routes.pages.console.caller import Administrator
from authapi.web.routes.pages.flow import Sent

ENTRY: Final = "entry"
"""The name of the button that tries one entry again; its value is the id."""
_SHOWN: Mapping[str, bool | None] = {"": None, "waiting": False, "given-up": True}
"""By the value of `show` in the address: whether the entries have failed for good."""
_ROWS = 10


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the list. It has no payload of an entry, whose links contain secrets."""

    entries: Sequence[OutboxEntry]
    shown: str
    next: str | None
    """The address of the next page; None on the last one."""
    first: str | None
    """The address of the first page; None on the first one."""
    clear: str
    """The address without a filter; empty if there is none."""


async def listing(caller: Administrator, kind: str, page: str) -> Listing:
    """Returns what the address asks for of the entries of `kind`. `page` has the list.

    A filter or a position that is not valid is ignored.
    """
    given = caller.request.query_params
    shown = given.get("show", "")
    if shown not in _SHOWN:
        shown = ""
    after = _id_of(given.get("after", ""))
    # One more than the page has tells whether there is a next one.
    found = await caller.services.queues.page(
        kind, has_failed=_SHOWN[shown], after=after, limit=_ROWS + 1
    )
    entries = found[:_ROWS]
    next_id = str(entries[-1].id) if len(found) > _ROWS else None
    return Listing(
        entries,
        shown,
        next=None if next_id is None else caller.address(page, show=shown, after=next_id),
        first=None if after is None else caller.address(page, show=shown),
        clear=caller.address(page) if shown else "",
    )


async def retry_entry(
    caller: Administrator, actor: Identity, sent: Sent, kind: str, page: str
) -> Response:
    """Tries the entry of the form again, and leads to `page`. Raises as `Queues.retry_entry`."""
    entry_id = _id_of(sent.get(ENTRY))
    if entry_id is None:
        raise NotFound
    try:
        is_due = await caller.services.queues.retry_entry(kind, entry_id, actor=actor)
    except NotFound:
        return await caller.leads_to(page, "delivery-gone")
    return await caller.leads_to(page, "retried" if is_due else "delivery-busy", int(is_due))


async def retry_all(
    caller: Administrator, actor: Identity, kind: str, page: str, *, receiver: str | None = None
) -> Response:
    """Tries all entries again, or those of a receiver, and leads to `page`."""
    count = await caller.services.queues.retry(kind, actor=actor, receiver=receiver)
    return await caller.leads_to(page, "retried", count)


def _id_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
