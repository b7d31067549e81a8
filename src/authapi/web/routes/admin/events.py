"""/admin/events: the events of all accounts, in pages or as a file."""

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
from authapi.domain.client import canonical_ip
from authapi.domain.events import EventFilter, EventType
from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems
from authapi.web.answers.event_files import EVENT_FILE_FORMATS, Download
from authapi.web.context import context_of
from authapi.web.routes.admin.gates import Superuser, router_for
from authapi.web.schemas.administration import AdminEventOut, AdminEventPage

router = router_for("/admin/events")

_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "All matching events, the newest first.",
        "content": {"text/csv": {}, "application/jsonl": {}},
    }
}


def _timestamp(value: object) -> datetime:
    # pydantic would also accept numbers, and dates without a time.
    try:
        if isinstance(value, str):
            return parse_time(value)
    except ValueError:  # such as the 31st of February
        pass
    raise PydanticCustomError(
        "time_invalid", "must be an RFC 3339 time with an offset (in a query, encode + as %2B)"
    )


Timestamp = Annotated[
    datetime,
    BeforeValidator(_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _address(value: object) -> str:
    # The database contains addresses in canonical form.
    if isinstance(value, str) and (address := canonical_ip(value)) is not None:
        return address
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


def _event_filter(
    user: Annotated[UUID | None, Query(description="The id of the account.")] = None,
    actor: Annotated[
        UUID | None, Query(description="The id of the superuser who changed the account.")
    ] = None,
    type: Annotated[EventType | None, Query()] = None,  # noqa: A002  # the name of the parameter
    ip: Annotated[
        IP | None,
        Query(description="The IP address of the client, in any notation.", examples=["192.0.2.1"]),
    ] = None,
    since: Annotated[
        Timestamp | None, Query(description="Start, inclusive. The resolution is 1 ms.")
    ] = None,
    until: Annotated[
        Timestamp | None, Query(description="End, exclusive. The resolution is 1 ms.")
    ] = None,
) -> EventFilter:
    return EventFilter(
        user_id=user,
        actor_id=actor,
        type=type,
        ip=ip,
        since=None if since is None else first_id_at(since),
        until=None if until is None else first_id_at(until),
    )


Filter = Annotated[EventFilter, Depends(_event_filter)]


@router.get("", responses=problems(401, 403, 404, 422, 503))
async def list_events(
    superuser: Superuser,
    request: Request,
    event_filter: Filter,
    before: Annotated[UUID | None, Query(description="The `next` of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AdminEventPage:
    """List the events of all accounts, the newest first."""
    audit = context_of(request).runtime.services.audit
    events = await audit.search(event_filter, before=before, limit=limit)
    items = [AdminEventOut.of(event) for event in events]
    return AdminEventPage(items=items, next=events[-1].id if len(events) == limit else None)


@router.get(
    "/export", response_class=Response, responses=_FILE | problems(401, 403, 404, 422, 429, 503)
)
async def export_events(
    superuser: Superuser,
    request: Request,
    event_filter: Filter,
    format: Literal["csv", "jsonl"] = "jsonl",  # noqa: A002  # the name of the parameter
) -> StreamingResponse:
    """Export the events of all accounts as a file, which is streamed.

    In CSV, cells that a spreadsheet would evaluate as formulas start with an apostrophe.
    """
    return await event_file(request, event_filter, format, superuser)


async def event_file(
    request: Request, wanted: EventFilter, name: str, caller: Identity
) -> StreamingResponse:
    """Returns the response with the file of all matching events, in the format `name`.

    Raises StorageUnavailable, TooManyRequests, and InvalidCredential if the caller is no superuser
    any longer.
    """
    file_format = EVENT_FILE_FORMATS[name]
    audit = context_of(request).runtime.services.audit
    pages = audit.export(wanted, file_format.write, caller=caller, superuser=True)
    # Read before the response starts: if the database is not available, the status can be 503.
    first = await anext(pages, "")

    async def text() -> AsyncGenerator[str]:
        async with aclosing(pages):
            yield file_format.head + first
            async for page in pages:
                yield page

    return Download(text(), name=f"events.{name}", media_type=file_format.media_type)
