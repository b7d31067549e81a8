"""`authapi users import`: imports accounts of other systems."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.progress import Progress
from authapi.cli.terminal.tables import print_one
from authapi.cli.terminal.texts import printable
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.accounts.importing import (
    AccountImporter,
    OnProgress,
    Summary,
    lines_from_fastapi_users,
)
from authapi.services.accounts.importing.id_map import IdMap, require_absent
from authapi.services.accounts.importing.lines import Ids

_MAX_PRINTED = 100
"""Rejected lines that are printed; of further ones only the number is printed."""
_MAX_FIELD_LENGTH = 40


def import_users(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON lines; - is standard input; or a URL.")
    ],
    origin: Annotated[
        Literal["fastapi-users"] | None,
        typer.Option("--from", help="FILE is the URL of a database of this system."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The table of its accounts, if it is not user."),
    ] = None,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="The id of a line, a UUID, is the id of its account.")
    ] = False,
    ids_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the id of each line, and its new id, to it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only validate and count.")] = False,
    allow_superusers: Annotated[
        bool, typer.Option("--allow-superusers", help="Accept lines of superusers.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Import accounts with password hashes of another system: all of them or none.

    A line whose e-mail address is in use is skipped. docs/import.md describes the fields and ids.
    """
    if keep_ids and ids_out is not None:
        raise ConfigurationError("--keep-ids and --ids-out exclude each other")
    if table is not None and origin is None:
        raise ConfigurationError("--table needs --from fastapi-users")
    ids = Ids.KEPT if keep_ids else Ids.NEW if ids_out is None else Ids.MAPPED
    if ids_out is not None:
        require_absent(ids_out)
    progress = Progress()
    report = _RejectedLines(progress)
    foreign = None if origin is None else _ForeignTable(table or "user", ids is not Ids.NEW)
    with (
        progress,
        _spool(source, foreign, progress) as lines,
        nullcontext() if ids_out is None or dry_run else IdMap(ids_out) as id_map,
    ):

        async def work(services: Services) -> Summary:
            importing = AccountImporter(
                services.database,
                services.audit,
                services.settings,
                allow_superusers=allow_superusers,
                own_columns=services.own_columns,
                ids=ids,
                id_map=id_map,
            )
            return await importing.run(
                lines, report, dry_run=dry_run, on_progress=_shown(progress, dry_run=dry_run)
            )

        summary = run_with_services(work, keys="locked")
    report.finish()
    print_one({**asdict(summary), "dry_run": dry_run}, as_json=as_json)
    if summary.refused:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _ForeignTable:
    name: str
    with_ids: bool


class _RejectedLines:
    """Prints rejected lines and the reasons on standard error, up to `_MAX_PRINTED`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._count = 0

    def __call__(self, line: int, field: str, reason: str) -> None:
        self._count += 1
        if self._count <= _MAX_PRINTED:
            parts = (f"line {line}", printable(field)[:_MAX_FIELD_LENGTH], reason)
            self._progress.print(": ".join(filter(None, parts)))

    def finish(self) -> None:
        if self._count > _MAX_PRINTED:
            print(f"and {self._count - _MAX_PRINTED} more", file=sys.stderr)


def _shown(progress: Progress, *, dry_run: bool) -> OnProgress:
    done = "lines compared" if dry_run else "lines imported"

    def show(lines: int, total: int | None) -> None:
        if total is None:
            progress.show("lines checked", lines)
        else:
            progress.show("lines checked", total, total)
            progress.show(done, lines, total)

    return show


@contextmanager
def _spool(source: str, foreign: _ForeignTable | None, progress: Progress) -> Iterator[BinaryIO]:
    # The lines are read twice, first to validate and then to import. A temporary file without a
    # name guarantees that both passes read the same bytes; it is removed when the process ends.
    with tempfile.TemporaryFile() as spool:
        try:
            if foreign is not None:
                _write_accounts(source, foreign, spool, progress)
            elif source == "-":
                shutil.copyfileobj(sys.stdin.buffer, spool)
            else:
                with Path(source).open("rb") as file:
                    shutil.copyfileobj(file, spool)
            spool.flush()
        except OSError as error:
            cause = error.strerror or type(error).__name__
            raise ConfigurationError(f"cannot read the lines: {cause}") from None
        yield spool


def _write_accounts(url: str, table: _ForeignTable, spool: BinaryIO, progress: Progress) -> None:
    if url == "-":  # a URL in the arguments would expose its password to other processes
        url = sys.stdin.readline().strip()
    lines = lines_from_fastapi_users(url, table.name, with_ids=table.with_ids)
    for number, line in enumerate(lines, 1):
        spool.write(line)
        progress.show("accounts read", number)
