"""`authapi events`: lists, follows, exports and reapplies security events."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from authapi.cli.accounts.restores import reapply
from authapi.cli.accounts.tailing import follow
from authapi.cli.services import as_id, find_user, parse_id, parse_moment, run_with_services
from authapi.cli.terminal.options import JSONOption, PlainOption
from authapi.cli.terminal.progress import Progress
from authapi.cli.terminal.streams import write_utf8
from authapi.cli.terminal.tables import Continuation, print_list
from authapi.cli.terminal.texts import as_text
from authapi.crypto.ids import first_id_at
from authapi.domain.client import canonical_ip
from authapi.domain.events import Event, EventFilter, EventType
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.web.answers.event_files import EVENT_FILE_FORMATS

app = typer.Typer(help="List, follow, export and reapply security events.", no_args_is_help=True)
app.command()(reapply)

UserOption = Annotated[
    str | None,
    typer.Option(metavar="USER", help="E-mail address or id; by id also a deleted account."),
]
TypeOption = Annotated[
    EventType | None, typer.Option("--type", metavar="TYPE", help="Type of event.")
]
IPOption = Annotated[str | None, typer.Option(help="IP address, in any notation.")]
SinceOption = Annotated[str | None, typer.Option(metavar="TIME", help="2026-11-23T08:00:00Z")]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Exclusive.")]


@app.command("list")
def list_events(
    user: UserOption = None,
    kind: TypeOption = None,
    ip: IPOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Start before this event.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    plain: PlainOption = False,
    as_json: JSONOption = False,
) -> None:
    """List events, newest first."""

    async def work(services: Services) -> list[Event]:
        event_filter = await _event_filter(services, user, kind, ip, since, until)
        # One event more tells whether the list goes on.
        return list(await services.audit.search(event_filter, before=start, limit=limit + 1))

    start = None if before is None else parse_id(before)
    found = run_with_services(work, keys="locked")
    events = found[:limit]
    print_list(
        [_row(event) for event in events],
        empty="No events match.",
        as_json=as_json,
        plain=plain,
        more=Continuation("--before", str(events[-1].id), is_later=start is not None)
        if len(found) > limit
        else None,
        items=[_as_json(event) for event in events] if as_json else None,
    )


@app.command()
def tail(
    user: UserOption = None,
    kind: TypeOption = None,
    ip: IPOption = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="Past events first.")
    ] = 10,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    as_json: JSONOption = False,
) -> None:
    """Print events as they are recorded, oldest first, until Ctrl-C. With --json, JSON lines."""

    async def work(services: Services) -> None:
        event_filter = await _event_filter(services, user, kind, ip, None, None)
        async for event in follow(services, event_filter, lines=lines, interval=interval):
            print(json.dumps(_as_json(event)) if as_json else _line(event), flush=True)

    run_with_services(work, keys="locked")


@app.command()
def export(
    user: UserOption = None,
    kind: TypeOption = None,
    ip: IPOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    form: Annotated[Literal["csv", "jsonl"], typer.Option("--format")] = "jsonl",
) -> None:
    """Write all events to standard output, newest first."""
    chosen = EVENT_FILE_FORMATS[form]
    write_utf8()
    progress, count = Progress(), 0

    def write(page: Sequence[Event]) -> str:
        nonlocal count
        count += len(page)
        return chosen.write(page)

    async def work(services: Services) -> None:
        event_filter = await _event_filter(services, user, kind, ip, since, until)
        is_watched = not sys.stdout.isatty()  # otherwise the events themselves show the progress
        sys.stdout.write(chosen.head)
        async for text in services.audit.export(event_filter, write):
            sys.stdout.write(text)
            if is_watched:
                progress.show("events written", count)

    with progress:
        run_with_services(work, keys="locked")


async def _event_filter(
    services: Services,
    user: str | None,
    kind: EventType | None,
    ip: str | None,
    since: str | None,
    until: str | None,
) -> EventFilter:
    owner = None
    if user is not None:
        # An id is not looked up, so that events of a deleted account are address too.
        owner = as_id(user) or (await find_user(services, user)).id
    return EventFilter(
        user_id=owner,
        type=kind,
        ip=None if ip is None else _parse_ip(ip),
        since=None if since is None else first_id_at(parse_moment(since)),
        until=None if until is None else first_id_at(parse_moment(until)),
    )


def _parse_ip(text: str) -> str:
    address = canonical_ip(text)
    if address is None:
        raise ConfigurationError("ip: must be an IPv4 or IPv6 address")
    return address


def _as_json(event: Event) -> dict[str, object]:
    """Returns an event as the API describes it to a superuser."""
    from authapi.web.schemas.administration import AdminEventOut  # pydantic models

    return AdminEventOut.of(event).model_dump(mode="json")


def _line(event: Event) -> str:
    parts = (event.at, event.type.value, event.outcome, event.user_id, event.client.ip)
    return "  ".join(map(as_text, (*parts, dict(event.detail))))


def _row(event: Event) -> dict[str, object]:
    return {
        "id": event.id,
        "at": event.at,
        "type": event.type.value,
        "outcome": event.outcome,
        "user_id": event.user_id,
        "actor_id": event.actor_id,
        "session_id": event.session_id,
        "strategy": event.strategy,
        "ip": event.client.ip,
        "detail": dict(event.detail),
    }
