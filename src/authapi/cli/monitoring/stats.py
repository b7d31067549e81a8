"""`authapi stats`: prints numbers about the service."""

import asyncio
import json
import sys
from typing import Annotated

import typer

from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.tables import console, is_terminal, print_one
from authapi.domain.monitoring.statistics import EventCount, Statistics
from authapi.domain.monitoring.wording import pluralize
from authapi.services import Services


def stats(
    watch: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=3600, metavar="SECONDS", help="Repeat at this interval until Ctrl-C."
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Print the numbers of accounts, logins, events, queued jobs and keys.

    With --watch and --json, JSON lines.
    """

    async def work(services: Services) -> None:
        while True:
            found, versions = (
                await services.statistics.counts(),
                await services.statistics.versions(),
            )
            if watch is not None and is_terminal():
                console().clear()
            if as_json:
                _print_json(found, indent=2 if watch is None else None)
            else:
                print_one(
                    {**_row(found), "database": versions.database, "schema": versions.schema},
                    as_json=False,
                )
            sys.stdout.flush()
            if watch is None:
                return
            await asyncio.sleep(watch)

    run_with_services(work, keys="locked")


def _print_json(found: Statistics, *, indent: int | None) -> None:
    from authapi.web.schemas.monitoring.statistics import StatisticsOut  # pydantic models

    print(json.dumps(StatisticsOut.of(found).model_dump(mode="json"), indent=indent))


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
