"""/console/events: the events of all accounts, searched, by day, and as a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from authapi.crypto.ids import first_id_at
from authapi.domain.client import canonical_ip
from authapi.domain.email_address import MAX_LENGTH, parse_email
from authapi.domain.events import REFUSALS, EventFilter, EventType
from authapi.errors import InvalidInput, NotFound
from authapi.services.audit.search import FoundEvents
from authapi.web.answers.event_files import EVENT_FILE_FORMATS
from authapi.web.pages import addresses
from authapi.web.pages.account.event_texts import CHANGES, SIGN_INS
from authapi.web.pages.rendering import see_other, sentence, single_line
from authapi.web.routes.admin.events import event_file
from authapi.web.routes.pages.account.sudo import needs_of
from authapi.web.routes.pages.console.caller import (
    FRESH_READER,
    Administrator,
    router_for,
    shown,
)
from authapi.web.routes.pages.console.event_views.day_chart import day_chart
from authapi.web.routes.pages.console.event_views.rows import event_rows

router = router_for("/events")

FILTERS: Final = ("user", "actor", "type", "ip", "since", "until")
"""The parameters of the page."""
_ROWS = 15
GROUPS: Mapping[str, frozenset[EventType]] = {
    "sign-ins": SIGN_INS,
    "changes": CHANGES,
    "refused": REFUSALS,
}
"""The types of events by their groups, which are choices too."""


@dataclass(slots=True)
class Search:
    """The filters of the page, and what they mean."""

    values: Mapping[str, str]
    """The filters as the address has them."""
    wanted: EventFilter = field(default_factory=EventFilter)
    errors: dict[str, str] = field(default_factory=dict)
    """The sentence for each filter that is not valid. The search then finds nothing."""

    @property
    def given(self) -> Mapping[str, str]:
        """The filters that are set."""
        return {name: value for name, value in self.values.items() if value}


@shown(router, "")
async def show_events(caller: Administrator) -> Response:
    """Show a page of the events that match, the newest first."""
    request, search = caller.request, await _search(caller)
    before = _event_id(request.query_params.get("before"))
    found, chart = FoundEvents([], None, is_cut=False), None
    if not search.errors:
        explorer = caller.services.audit_search
        found = await explorer.find(search.wanted, before=before, limit=_ROWS)
        if before is None:
            chart = day_chart(await explorer.count_by_day(search.wanted))
    next_id = None if found.next is None else str(found.next)
    return caller.render(
        "console-events",
        kept=FILTERS,
        filters=search.values,
        errors=search.errors,
        groups={name: sorted(kinds) for name, kinds in GROUPS.items()},
        events=await event_rows(caller, found.events),
        chart=chart,
        days=caller.address("events/days", **search.given),
        is_cut=found.is_cut,
        clear=caller.address("events") if search.given else "",
        files={
            name: caller.address("events/export", format=name, **search.given)
            for name in EVENT_FILE_FORMATS
        },
        next=next_id and caller.address("events", **search.given, before=next_id),
        first=None if before is None else caller.address("events", **search.given),
    )


@shown(router, "/days")
async def show_days(caller: Administrator) -> Response:
    """Show the numbers of events by day, as a table."""
    search, chart = await _search(caller), None
    if not search.errors:
        chart = day_chart(await caller.services.audit_search.count_by_day(search.wanted))
    return caller.render(
        "console-event-days",
        kept=FILTERS,
        filters=list(search.given.values()),
        chart=chart,
        back=caller.address("events", **search.given),
    )


@shown(router, "/export")
async def export(caller: Administrator) -> Response:
    """Send the file of the events that match. Requires a recent login."""
    if needs_of(caller, FRESH_READER).is_any:
        query = urlencode(caller.request.query_params.multi_items())
        here = f"{addresses.visible_path(caller.request)}?{query}"
        return see_other(addresses.page(caller.request, "prove", next=here))
    search = await _search(caller)
    name = caller.request.query_params.get("format", "")
    if search.errors or name not in EVENT_FILE_FORMATS:
        raise NotFound
    identity = await caller.passes(FRESH_READER)
    return await event_file(caller.request, search.wanted, name, identity)


async def _search(caller: Administrator) -> Search:
    request = caller.request
    search = Search({name: _text(request, name) for name in FILTERS})
    values = search.values
    kinds = GROUPS.get(values["type"])
    kind = values["type"] if values["type"] in set(EventType) else None
    if values["type"] and kinds is None and kind is None:
        search.values = {**values, "type": ""}
    ip = canonical_ip(values["ip"]) if values["ip"] else None
    if values["ip"] and ip is None:
        search.errors["ip"] = sentence(request, "ip_invalid")
    until = _day(search, request, "until")
    search.wanted = EventFilter(
        user_id=await _account(caller, search, "user"),
        actor_id=await _account(caller, search, "actor"),
        type=None if kind is None else EventType(kind),
        types=kinds,
        ip=ip,
        since=_first_id(_day(search, request, "since")),
        # The last day is a part of the time.
        until=_first_id(None if until is None else until + timedelta(days=1)),
    )
    return search


async def _account(caller: Administrator, search: Search, name: str) -> UUID | None:
    """Returns the id that a filter names, by the id itself or by the address of the account."""
    text = search.values[name]
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        pass
    try:
        email = parse_email(text, allow_reserved=True)
        return (await caller.services.accounts.profiles.find_by_email(email)).id
    except (InvalidInput, NotFound):
        search.errors[name] = sentence(caller.request, "account_unknown")
        return None


def _day(search: Search, request: Request, name: str) -> date | None:
    text = search.values[name]
    try:
        day = date.fromisoformat(text) if text else None
        if day is not None and not date(1970, 1, 1) <= day <= date(9000, 1, 1):
            raise ValueError
    except ValueError:
        search.errors[name] = sentence(request, "day_invalid")
        return None
    return day


def _first_id(day: date | None) -> UUID | None:
    return None if day is None else first_id_at(datetime.combine(day, time(), UTC))


def _event_id(text: str | None) -> UUID | None:
    """Returns the id in an address; None for a text that is no id, which shows the first page."""
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


def _text(request: Request, name: str) -> str:
    # No valid value is longer than an address. What is left of a longer one is not valid either: a
    # filter that was set never finds all events.
    return single_line(request.query_params.get(name, "")).strip()[: MAX_LENGTH + 1]
