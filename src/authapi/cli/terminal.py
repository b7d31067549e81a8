"""Prints results, as tables for people or JSON for programs, and progress; asks to confirm."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from types import TracebackType
from typing import Annotated, Self

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


_PROGRESS_INTERVAL = 0.1
"""Seconds."""


class Progress:
    """Shows how far a command is, in one line on standard error, which each call replaces.

    Shows nothing if standard error is not a terminal. Use it in a `with` statement, which removes
    the line at its end.
    """

    def __init__(self) -> None:
        # None if the process was started with standard error closed.
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0
        self._next_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Shows `text`, unless another text was shown in the last tenth of a second."""
        if not self._is_shown or (at := monotonic()) < self._next_at:
            return
        self._next_at = at + _PROGRESS_INTERVAL
        print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def clear(self) -> None:
        """Removes the line, so that other output can follow."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


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
