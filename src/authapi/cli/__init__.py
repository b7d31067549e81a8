"""The command line: one file a noun, and one way to fail: a line on stderr and an exit code."""

import signal
import sys
from collections.abc import Iterable
from importlib import import_module

import typer

from authapi.cli.running import printable
from authapi.errors import AuthAPIError

_COMMANDS = {
    "serve": "serve",
    "db": "db",
    "users": "accounts.users",
    "sessions": "accounts.sessions",
    "tokens": "accounts.tokens",
    "events": "accounts.events",
    "keys": "keys",
    "mail": "mail",
    "webhooks": "webhooks",
    "passwords": "accounts.passwords",
    "doctor": "doctor",
    "verify": "verify",
    "strategies": "inspect",
    "config": "inspect",
    "openapi": "inspect",
}
"""Each with its module, which has a group, `app`, or a function of the same name."""
_ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
"""Signals that ask a process to end."""


def main() -> None:
    """Run the command line. What can be expected to fail exits with 1 and one line on stderr."""
    # The signal mask is inherited through `fork` and `execve` (signal(7)): a parent that had one of
    # these blocked when it started us would leave a process that only SIGKILL ends. Workers
    # inherit the mask from here. Signals that are ignored, as under nohup, stay ignored.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    asked = sys.argv[1:2]
    # A noun that is known is all that is imported: the service itself takes a second.
    app = _application(asked if asked and asked[0] in _COMMANDS else _COMMANDS)
    try:
        app()
    except AuthAPIError as error:
        detail = getattr(error, "title", None) if not str(error) else str(error)
        print(f"authapi: {printable(detail or type(error).__name__)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _application(names: Iterable[str]) -> typer.Typer:
    found = typer.Typer(
        name="authapi",
        help="Authentication as a service. Settings are AUTHAPI_* variables; see `authapi config`.",
        callback=_nothing,  # or one command alone would be taken for the whole command line
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name in names:
        module = import_module(f"authapi.cli.{_COMMANDS[name]}")
        if hasattr(module, "app"):
            found.add_typer(module.app, name=name)
        else:
            found.command(name)(getattr(module, name))
    return found


def _nothing() -> None:
    pass
