"""/account/activity: the events of the account, as sentences."""

from collections.abc import Mapping
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.events import REFUSALS, EventType
from authapi.web.pages import addresses
from authapi.web.pages.account.event_texts import CHANGES, SIGN_INS, event_lines
from authapi.web.routes.pages.account.caller import Caller, shown
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

_FILTERS: Mapping[str, frozenset[EventType] | None] = {
    "all": None,
    "sign-ins": SIGN_INS,
    "changes": CHANGES,
    "refused": REFUSALS,
}
"""The types of events by the value of `show` in the address."""
_ALL = "all"
_PAGE = 50


@shown(router, "/activity")
async def show_activity(caller: Caller) -> Response:
    """Show a page of the events, the newest first."""
    request = caller.request
    show = request.query_params.get("show", _ALL)
    if show not in _FILTERS:
        show = _ALL
    before = _event_id(request.query_params.get("before"))
    events = await caller.services.audit.page(
        caller.identity.user.id,
        before=before,
        limit=_PAGE + 1,  # one more than the page has tells whether there is an older one
        types=_FILTERS[show],
    )
    older = events[_PAGE - 1].id if len(events) > _PAGE else None
    return caller.render(
        "activity",
        shown=show,
        filters={name: _address(request, name) for name in _FILTERS},
        events=event_lines(request, events[:_PAGE]),
        newest=None if before is None else _address(request, show),
        older=None if older is None else _address(request, show, before=str(older)),
    )


def _address(request: Request, shown: str, *, before: str | None = None) -> str:
    show = None if shown == _ALL else shown
    return addresses.page(request, "activity", show=show, before=before)


def _event_id(text: str | None) -> UUID | None:
    """Returns the id in an address; None for a text that is no id, which shows the first page."""
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None
