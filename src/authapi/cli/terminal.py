"""Prints results, as tables for people or JSON for programs, and asks for confirmation."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from authapi.errors import ConfigurationError

JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def printable(text: str) -> str:
    """Replaces the characters of `text` that are not printable: a terminal would interpret them."""
    return "".join(c if c.isprintable() else "?" for c in text)


def print_rows(rows: Sequence[dict[str, object]], *, as_json: bool) -> None:
    """Prints a table, or a JSON array of objects."""
    if as_json:
        print(json.dumps(rows, default=str, indent=2))
        return
    if not rows:
        return
    texts = [[str(name) for name in rows[0]], *([_text(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(texts[0]))]
    for line in texts:
        print(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )


def print_one(row: dict[str, object], *, as_json: bool) -> None:
    """Prints one `name  value` line per member, or a JSON object."""
    if as_json:
        print(json.dumps(row, default=str, indent=2))
        return
    width = max(len(name) for name in row)
    for name, value in row.items():
        print(f"{name.ljust(width)}  {_text(value)}".rstrip())


def confirm(what: str) -> None:
    """Asks the operator to confirm `what`, a sentence without a full stop.

    Any answer except yes ends the command with exit code 1. Raises ConfigurationError if standard
    input is not a terminal: a script must pass `--yes`.
    """
    # None if the process was started with standard input closed.
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(f"{what}: add --yes to confirm")
    typer.echo(f"{what}.", err=True)
    typer.confirm("Continue?", abort=True, err=True)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, list | tuple | frozenset):
        return " ".join(sorted(map(str, value))) or "-"
    return printable(str(value))
