"""`authapi users import`: accounts of other systems."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from authapi.cli.running import JSONOption, print_one, printable, with_services
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.accounts.importing import Importing, Summary

_TOLD = 100
"""Refused lines that are told one by one."""
_LONGEST_NAME = 40


def import_users(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON lines; - for standard input; or a URL.")
    ],
    origin: Annotated[
        Literal["fastapi-users"] | None,
        typer.Option("--from", help="FILE is the URL of a database of this system."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look, and count.")] = False,
    allow_superusers: Annotated[
        bool, typer.Option("--allow-superusers", help="Without it, a superuser is refused.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Bring accounts in, with the password hashes of another system: all of them, or none.

    An address that somebody has is passed over. See docs/import.md for what a line may say.
    """
    told = _Told()
    with _spooled(source, origin) as lines:

        async def work(services: Services) -> Summary:
            importing = Importing(
                services.database,
                services.audit,
                services.settings,
                allow_superusers=allow_superusers,
            )
            return await importing.run(lines, told, dry_run=dry_run)

        summary = with_services(work, keys="locked")
    told.finish()
    print_one({**asdict(summary), "dry_run": dry_run}, as_json=as_json)
    if summary.refused:
        raise typer.Exit(1)


class _Told:
    """Says on standard error which lines are refused, and why; of very many, how many."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, line: int, field: str, reason: str) -> None:
        self._count += 1
        if self._count <= _TOLD:
            said = (f"line {line}", printable(field)[:_LONGEST_NAME], reason)
            print(": ".join(filter(None, said)), file=sys.stderr)

    def finish(self) -> None:
        if self._count > _TOLD:
            print(f"and {self._count - _TOLD} more", file=sys.stderr)


@contextmanager
def _spooled(source: str, origin: str | None) -> Iterator[BinaryIO]:
    # It is read twice, and what is imported has to be what was looked at: so it is kept, in a file
    # that has no name and goes with the process.
    with tempfile.TemporaryFile() as spool:
        try:
            if origin is not None:
                _write_accounts(source, spool)
            elif source == "-":
                shutil.copyfileobj(sys.stdin.buffer, spool)
            else:
                with Path(source).open("rb") as file:
                    shutil.copyfileobj(file, spool)
            spool.flush()
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise ConfigurationError(f"the lines cannot be read: {why}") from None
        yield spool


def _write_accounts(url: str, spool: BinaryIO) -> None:
    from authapi.storage.foreign import fastapi_users

    if url == "-":  # for who does not want a password among the arguments
        url = sys.stdin.readline().strip()
    spool.writelines(
        json.dumps(account, default=str).encode() + b"\n" for account in fastapi_users(url)
    )
