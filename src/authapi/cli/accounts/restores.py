"""The commands that follow the restore of a backup: `sessions end --all`, `events reapply`."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from authapi.cli.services import parse_moment, run_with_services
from authapi.cli.terminal.progress import Progress
from authapi.cli.terminal.questions import confirm
from authapi.cli.terminal.texts import printable
from authapi.domain.monitoring.wording import pluralize
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.restores import (
    AllSessions,
    BadLine,
    Ended,
    EventReplay,
    RecordedEvent,
    Replayed,
    merge_events,
    read_events,
)

_MAX_PRINTED = 20
"""Bad lines that are printed; of further ones only the number is printed."""


def end_all(*, before: str | None, keep_tokens: bool, yes: bool) -> None:
    """Ends the sessions and one-time secrets of all accounts. Asks for confirmation."""
    moment = None if before is None else parse_moment(before)
    if not yes:
        confirm(run_with_services(lambda it: _describe(it, moment, keep_tokens), keys="locked"))
    progress = Progress()

    def show(ended: Ended) -> None:
        progress.show("Ended", ended.sessions)
        progress.show("Outbox entries discarded", ended.outbox_entries)

    async def work(services: Services) -> Ended:
        return await AllSessions(services.database, services.audit).end(
            before=moment, keep_tokens=keep_tokens, on_progress=show
        )

    with progress:
        ended = run_with_services(work, keys="unlocked")
    print(f"Ended: {ended.sessions}")
    print(f"One-time secrets ended: {ended.one_time_secrets}")
    print(f"Outbox entries discarded: {ended.outbox_entries}")


async def _describe(services: Services, before: datetime | None, keep_tokens: bool) -> str:
    logins, tokens = await AllSessions(services.database, services.audit).count(
        before=before, keep_tokens=keep_tokens
    )
    counts = pluralize(logins, "session"), pluralize(tokens, "personal access token")
    return f"This ends {' and '.join(counts)} of all accounts, and discards waiting mails"


def reapply(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Exports of `events export`, or JSON lines of received webhooks.",
        ),
    ],
    since: Annotated[
        str, typer.Option(metavar="TIME", help="A few minutes before the restored backup.")
    ],
) -> None:
    """Repeat ends, deactivations, deletions and password changes after a restore of the database.

    An account whose password had changed has none afterwards: its owner chooses a new one with a
    mailed link. Give all files at once: a later event may have undone an earlier one. Nothing is
    repeated if a file has a bad line. It is safe to repeat the command. A pipe is read to its end.
    """
    moment = parse_moment(since)
    events = merge_events(*(_read(file, moment) for file in files))
    if not events:
        names = ", ".join(map(str, files))
        raise ConfigurationError(f"nothing was reapplied: no event since {since} in {names}")
    progress = Progress()

    async def work(services: Services) -> Replayed:
        # The deletion of an account is an event of its own, for which webhooks need the keys.
        replay = EventReplay(services.database, services.audit, services.hooks, services.settings)
        return await replay.run(
            events,
            since=moment,
            on_progress=lambda done, total: progress.show("Events", done, total),
        )

    with progress:
        result = run_with_services(work, keys="unlocked")
    _print_result(result)
    if result.refused:
        raise typer.Exit(1)


def _read(file: Path, since: datetime) -> Sequence[RecordedEvent]:
    events, bad = read_events(file, since=since)
    if bad:
        _print_bad_lines(bad)
        raise ConfigurationError(
            f"nothing was reapplied: {file} has {pluralize(len(bad), 'bad line')}"
        )
    return events


def _print_bad_lines(bad: Iterable[BadLine]) -> None:
    for number, line in enumerate(bad):
        if number == _MAX_PRINTED:
            print("and more", file=sys.stderr)
            return
        print(f"line {line.number}: {printable(line.reason)}", file=sys.stderr)


def _print_result(result: Replayed) -> None:
    print(f"Reapplied: {result.applied.total()}")
    for kind, count in sorted(result.applied.items()):
        print(f"  {kind.value}: {count}")
    print(f"Known already: {result.known}")
    print(f"Without account: {result.without_account}")
    for event, reason in result.refused:
        print(
            f"not reapplied: {event.type.value} of {event.user_id}: {printable(reason)}",
            file=sys.stderr,
        )
    for kind, count in sorted(result.by_hand.items()):
        print(f"repeat by hand: {count} {kind.value}", file=sys.stderr)
