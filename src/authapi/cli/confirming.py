"""Asks before a command removes what cannot be brought back."""

import sys
from typing import Annotated

import typer

from authapi.errors import ConfigurationError

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(what: str) -> None:
    """Return if the operator agrees to `what`, a sentence without a full stop.

    On a terminal it is asked, and any answer but yes ends the command with exit code 1. Raises
    ConfigurationError where standard input is no terminal: a script has to say `--yes`.
    """
    # None where the process was started with a closed standard input.
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(f"{what}: add --yes to do it without a question")
    typer.echo(f"{what}.", err=True)
    typer.confirm("Continue?", abort=True, err=True)


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """`number` with its noun, such as `1 key` or `12 keys`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
