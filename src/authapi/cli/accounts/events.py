"""`authapi events`: what happened to accounts."""

import re
import sys
from datetime import datetime
from typing import Annotated, Literal

import typer

from authapi.cli.running import (
    JSONOption,
    find_user,
    parse_id,
    print_rows,
    with_services,
)
from authapi.clock import parse_time
from authapi.crypto.ids import first_id_at
from authapi.errors import ConfigurationError
from authapi.identity import Event, EventType, canonical_ip
from authapi.services import Services
from authapi.storage.tables.events import EventFilter
from authapi.web.exports import EXPORTS

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

app = typer.Typer(help="What happened to accounts.", no_args_is_help=True)

UserOption = Annotated[
    str | None,
    typer.Option(metavar="USER", help="Whose account: address, or id, also of the gone."),
]
TypeOption = Annotated[EventType | None, typer.Option("--type", metavar="TYPE", help="Which.")]
IPOption = Annotated[str | None, typer.Option(help="From this address, in any spelling.")]
SinceOption = Annotated[str | None, typer.Option(metavar="TIME", help="2026-11-23T08:00:00Z")]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Exclusive.")]


@app.command("list")
def list_events(
    user: UserOption = None,
    kind: TypeOption = None,
    ip: IPOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: JSONOption = False,
) -> None:
    """List events, the newest first."""

    async def work(services: Services) -> list[Event]:
        wanted = await _wanted(services, user, kind, ip, since, until)
        return list(await services.audit.search(wanted, limit=limit))

    print_rows([_row(event) for event in with_services(work)], as_json=as_json)


@app.command()
def export(
    user: UserOption = None,
    kind: TypeOption = None,
    ip: IPOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    form: Annotated[Literal["csv", "jsonl"], typer.Option("--format")] = "jsonl",
) -> None:
    """Write all events to standard output, the newest first, however many."""
    chosen = EXPORTS[form]

    async def work(services: Services) -> None:
        wanted = await _wanted(services, user, kind, ip, since, until)
        sys.stdout.write(chosen.head)
        async for text in services.audit.export(wanted, chosen.write):
            sys.stdout.write(text)

    with_services(work)


async def _wanted(
    services: Services,
    user: str | None,
    kind: EventType | None,
    ip: str | None,
    since: str | None,
    until: str | None,
) -> EventFilter:
    owner = None
    if user is not None:
        # By id, also those of an account that is gone.
        owner = (await find_user(services, user)).id if "@" in user else parse_id(user)
    return EventFilter(
        user_id=owner,
        type=kind,
        ip=None if ip is None else _address(ip),
        since=None if since is None else first_id_at(_moment(since)),
        until=None if until is None else first_id_at(_moment(until)),
    )


def _address(text: str) -> str:
    found = canonical_ip(text)
    if found is None:
        raise ConfigurationError("ip: must be an IPv4 or IPv6 address")
    return found


def _moment(text: str) -> datetime:
    try:
        # A date alone (`full-date` of RFC 3339) is its first moment in UTC.
        return parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError:
        raise ConfigurationError(
            "a time is written like 2026-11-23T08:00:00Z (RFC 3339), or as a date: 2026-11-23"
        ) from None


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
