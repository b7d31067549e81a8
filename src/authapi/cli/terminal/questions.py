"""Asks the operator to confirm what cannot be undone."""

import sys

import typer

from authapi.cli.terminal.texts import printable
from authapi.errors import ConfigurationError


def confirm(what: str) -> None:
    """Asks the operator to confirm `what`, a sentence without a full stop.

    Any answer except yes ends the command with exit code 1. Raises ConfigurationError if standard
    input is not a terminal: a script must pass `--yes`.
    """
    _require_terminal(what)
    typer.echo(f"{what}.", err=True)
    typer.confirm("Continue?", abort=True, err=True)


def confirm_by_name(what: str, name: str) -> None:
    """Asks the operator to confirm `what` by typing `name`. Otherwise as `confirm`."""
    _require_terminal(what)
    typer.echo(f"{what}.", err=True)
    if (
        typer.prompt(f"Type {printable(name)} to go on", default="", err=True, show_default=False)
        != name
    ):
        raise typer.Abort


def _require_terminal(what: str) -> None:
    # None if the process was started with standard input closed.
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(what, hint="add --yes to confirm")
