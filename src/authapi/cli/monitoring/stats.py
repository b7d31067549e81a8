"""`authapi stats`: prints numbers about the service."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.tables import console, is_terminal, print_one
from authapi.domain.monitoring.statistics import EventCount, Statistics, TableSize
from authapi.domain.monitoring.wording import pluralize, size_in_words
from authapi.services import Services
from authapi.services.monitoring.statistics import Versions


def stats(
    watch: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=3600, metavar="SECONDS", help="Repeat at this interval until Ctrl-C."
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Print the numbers of accounts, logins, events, queued jobs and keys, and sizes of tables.

    With --watch and --json, JSON lines.
    """

    async def work(services: Services) -> None:
        while True:
            statistics = services.statistics
            found, sizes = await statistics.counts(), await statistics.sizes()
            versions = await statistics.versions()
            if watch is not None and is_terminal():
                console().clear()
            if as_json:
                _print_json(found, sizes, versions, indent=2 if watch is None else None)
            else:
                shown = {"database": versions.database, "schema": versions.schema}
                tables = {f"table {it.name}": _size(it) for it in sizes}
                print_one({**_row(found), **shown, **tables}, as_json=False)
            sys.stdout.flush()
            if watch is None:
                return
            await asyncio.sleep(watch)

    run_with_services(work, keys="locked")


def _print_json(
    found: Statistics, sizes: Sequence[TableSize], versions: Versions, *, indent: int | None
) -> None:
    from authapi.web.schemas.monitoring.statistics import StatisticsOut  # pydantic models

    document = {
        **StatisticsOut.of(found).model_dump(mode="json"),
        "database": versions.database,
        "schema": versions.schema,
        "tables": [asdict(size) for size in sizes],
    }
    print(json.dumps(document, indent=indent))


def _size(size: TableSize) -> str:
    rows = "rows unknown" if size.rows is None else pluralize(size.rows, "row")
    about = "about " if size.is_estimated and size.rows else ""
    return f"{about}{rows}" + ("" if size.bytes is None else f", {size_in_words(size.bytes)}")


def _row(found: Statistics) -> dict[str, object]:
    accounts, sessions, events, keys = found.accounts, found.sessions, found.events, found.keys
    return {
        "accounts": f"{accounts.total:,}: {accounts.active:,} active, {accounts.confirmed:,} "
        f"confirmed, {accounts.mfa:,} with a second factor, "
        f"{pluralize(accounts.superusers, 'superuser')}",
        "logins": ", ".join(f"{count:,} {kind}" for kind, count in sessions.logins.items()),
        "personal_tokens": f"{sessions.personal_tokens:,}",
        "last_hour": _events(events.last_hour),
        "last_day": _events(events.last_day)
        + ("" if events.is_complete else " (only the newest are counted)"),
        "outbox": f"{found.waiting:,} waiting, {found.given_up:,} given up",
        "oldest_at": found.oldest_at,
        "keys": ", ".join(f"{count:,} {state}" for state, count in keys.by_state.items()),
        "next_rotation_at": keys.next_rotation_at,
    }


def _events(count: EventCount) -> str:
    return (
        f"{pluralize(count.events, 'event')}, {pluralize(count.sign_ins, 'login')}, "
        f"{count.refused_sign_ins:,} refused"
    )
