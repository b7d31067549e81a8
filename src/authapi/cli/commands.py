"""The commands with their modules, and `main`, which runs one."""

import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from authapi.cli.terminal import printable
from authapi.errors import AuthAPIError, ConfigurationError

_COMMANDS = {
    "serve": "serving.serve",
    "db": "db",
    "users": "accounts.users",
    "sessions": "accounts.sessions",
    "tokens": "accounts.tokens",
    "events": "accounts.events",
    "keys": "keys",
    "mail": "mail",
    "webhooks": "webhooks",
    "passwords": "accounts.passwords",
    "demo": "demo",
    "doctor": "doctor",
    "verify": "verify",
    "strategies": "inspect",
    "config": "inspect",
    "openapi": "inspect",
}
"""Command names and their modules. A module has a group `app`, or a function of the same name."""
_TERMINATION_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
"""Signals that terminate a process."""


def main() -> None:
    """Runs the command line. An AuthAPIError exits with 1 and prints one line on stderr."""
    # `fork` and `execve` inherit the signal mask (signal(7)). If the parent has blocked one of
    # these signals, only SIGKILL would end this process. Workers inherit the mask from it.
    # Ignored signals stay ignored, as under nohup.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINATION_SIGNALS)
    arguments, path = _split_app(sys.argv[1:])
    command = arguments[:1]
    # Imports only the module of the requested command: the whole service takes a second.
    app = _application(command if command and command[0] in _COMMANDS else _COMMANDS)
    try:
        if path is not None:
            if command == ["serve"]:
                raise ConfigurationError(
                    "serve runs the service alone: run an application with uvicorn, and"
                    " --http authapi:HTTPProtocol"
                )
            from authapi.cli.application import select

            select(path)
        app(arguments)
    except AuthAPIError as error:
        detail = getattr(error, "title", None) if not str(error) else str(error)
        print(f"authapi: {printable(detail or type(error).__name__)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # A hook of an application may refuse a change as in a request. Nothing was written.
        if (detail := _http_detail(error)) is None:
            raise
        print(f"authapi: {printable(detail)}", file=sys.stderr)
        sys.exit(1)


def _http_detail(error: Exception) -> str | None:
    """Returns the text of an HTTPException, without an import that takes a second."""
    module = sys.modules.get("starlette.exceptions")
    is_http = module is not None and isinstance(error, module.HTTPException)
    return str(error) if is_http else None


def _application(names: Iterable[str]) -> typer.Typer:
    application = typer.Typer(
        name="authapi",
        help="Run and administer authapi. Settings are AUTHAPI_* variables; see `authapi config`.",
        callback=_describe_app,  # typer would make a single command the whole command line
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name in names:
        module = import_module(f"authapi.cli.{_COMMANDS[name]}")
        if hasattr(module, "app"):
            application.add_typer(module.app, name=name)
        else:
            application.command(name)(getattr(module, name))
    return application


def _split_app(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Returns the arguments without a leading `--app`, and its value; None without it."""
    first, rest = arguments[:1], list(arguments[1:])
    if first == ["--app"]:
        return rest[1:], rest[0] if rest else ""
    if first and first[0].startswith("--app="):
        return rest, first[0].removeprefix("--app=")
    return list(arguments), None


def _describe_app(
    _: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:NAME",
            help="Use the settings, hooks and engine of this AuthAPI. It precedes the command.",
        ),
    ] = None,
) -> None:
    # `main` has read the option before it imported the module of the command.
    return None
