"""/admin/events: what happened to the accounts of everybody, in pages or as a file."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.responses import Response, StreamingResponse

from authapi.clock import parse_time
from authapi.crypto.ids import first_id_at
from authapi.identity import EventType, canonical_ip
from authapi.storage.tables.events import EventFilter
from authapi.web.context import context_of
from authapi.web.exports import EXPORTS, Download
from authapi.web.openapi import problems
from authapi.web.routes.admin import Superuser, router_for
from authapi.web.schemas import AnyEventOut, AnyEventPage

router = router_for("/admin/events")

_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "All of them, the newest first.",
        "content": {"text/csv": {}, "application/jsonl": {}},
    }
}


def _moment(value: object) -> datetime:
    # pydantic reads numbers, and dates alone, as moments too.
    try:
        if isinstance(value, str):
            return parse_time(value)
    except ValueError:  # such as the 31st of February
        pass
    raise PydanticCustomError(
        "time_invalid", "must be a time of RFC 3339, with its offset (in a query, + is %2B)"
    )


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _address(value: object) -> str:
    # Rows hold one spelling of each address.
    if isinstance(value, str) and (found := canonical_ip(value)) is not None:
        return found
    raise PydanticCustomError("ip_invalid", "must be an IPv4 or IPv6 address")


IP = Annotated[
    str,
    BeforeValidator(_address),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "ipv4", "maxLength": 15},
                {"type": "string", "format": "ipv6", "maxLength": 45},
            ]
        }
    ),
]


def _wanted(
    user: Annotated[UUID | None, Query(description="Whose account.")] = None,
    actor: Annotated[UUID | None, Query(description="The superuser who did it.")] = None,
    type: Annotated[EventType | None, Query()] = None,  # noqa: A002  # the name of the parameter
    ip: Annotated[IP | None, Query(description="In any spelling.", examples=["192.0.2.1"])] = None,
    since: Annotated[Moment | None, Query(description="To the millisecond.")] = None,
    until: Annotated[Moment | None, Query(description="Exclusive; to the millisecond.")] = None,
) -> EventFilter:
    return EventFilter(
        user_id=user,
        actor_id=actor,
        type=type,
        ip=ip,
        since=None if since is None else first_id_at(since),
        until=None if until is None else first_id_at(until),
    )


Wanted = Annotated[EventFilter, Depends(_wanted)]


@router.get("", responses=problems(401, 403, 404, 422, 503))
async def list_events(
    superuser: Superuser,
    request: Request,
    wanted: Wanted,
    before: Annotated[UUID | None, Query(description="`next` of the page before this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AnyEventPage:
    """What happened, the newest first, in pages."""
    audit = context_of(request).runtime.services.audit
    found = await audit.search(wanted, before=before, limit=limit)
    items = [AnyEventOut.of(event) for event in found]
    return AnyEventPage(items=items, next=found[-1].id if len(found) == limit else None)


@router.get(
    "/export", response_class=Response, responses=_FILE | problems(401, 403, 404, 422, 429, 503)
)
async def export(
    superuser: Superuser,
    request: Request,
    wanted: Wanted,
    format: Literal["csv", "jsonl"] = "jsonl",  # noqa: A002  # the name of the parameter
) -> StreamingResponse:
    """What happened, as a file. It is sent as it is read, however long it is.

    In CSV, a cell that a spreadsheet would compute has a quote before it.
    """
    chosen = EXPORTS[format]
    audit = context_of(request).runtime.services.audit
    pages = audit.export(wanted, chosen.write, caller=superuser, superuser=True)
    # Before the answer begins: a database that is away is a 503 still.
    first = await anext(pages, "")

    async def text() -> AsyncGenerator[str]:
        async with aclosing(pages):
            yield chosen.head + first
            async for page in pages:
                yield page

    return Download(text(), name=f"events.{format}", media_type=chosen.media_type)
