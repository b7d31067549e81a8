"""The commands with their modules, and `main`, which runs one.

A service keeps no memory for the command line: typer is imported by what needs it, and
`authapi serve` with plain options runs without it.
"""

import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

from authapi.cli.terminal.streams import discard_output, is_full, prepare_streams
from authapi.errors import AuthAPIError, ConfigurationError

if TYPE_CHECKING:
    import typer
    from typer._click import Command, Context
    from typer.core import TyperGroup


class _Listed(NamedTuple):
    """A command in the list of commands."""

    module: str
    """Has a group `app`, or a function of the name of the command."""
    help: str
    """The first sentence of its help, so that the list of commands imports no module of them."""


_COMMANDS = {
    "serve": _Listed("serving.command", "Run the service until SIGTERM or Ctrl-C."),
    "demo": _Listed(
        "demo",
        "Fill an empty development database with ten people, their devices, tokens and events.",
    ),
    "stats": _Listed(
        "monitoring.stats",
        "Print the numbers of accounts, logins, events, queued jobs and keys, and sizes of tables.",
    ),
    "doctor": _Listed("doctor", "Check the configuration."),
    "verify": _Listed(
        "verify", "Show which checks of RemoteJWT the token on standard input passes."
    ),
    "strategies": _Listed(
        "configuration.inspect", "List the strategies in the order in which they are tried."
    ),
    "config": _Listed("configuration.config", "Print every setting with its effective value."),
    "openapi": _Listed("configuration.inspect", "Print the OpenAPI document."),
    "prune": _Listed("prune", "Delete what has expired now, as the running service does."),
    "secret": _Listed("configuration.secret", "Create a value for AUTHAPI_SECRET."),
    "db": _Listed("db", "Manage the database schema."),
    "users": _Listed("accounts.users", "Manage accounts."),
    "sessions": _Listed("accounts.sessions", "List and end logins and personal access tokens."),
    "tokens": _Listed("accounts.tokens", "Create, list and end personal access tokens."),
    "events": _Listed("accounts.events", "List, follow, export and reapply security events."),
    "keys": _Listed("keys", "Manage the keys that sign JWTs."),
    "mail": _Listed("mail", "Test mail, and manage undelivered mail."),
    "webhooks": _Listed("webhooks", "Test webhooks, and manage undelivered events."),
    "passwords": _Listed("accounts.passwords", "Password hashing."),
}
"""The commands by name, in the order of the list: single commands, then groups."""
_TERMINATION_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
"""Signals that terminate a process."""
_SERVE_OPTIONS = {"host": None, "port": range(65536), "workers": range(1, 65)}
"""The options of `serve`, and the numbers that they accept."""


def main() -> None:
    """Runs the command line. An AuthAPIError exits with 1 and prints one line, and a hint."""
    # `fork` and `execve` inherit the signal mask (signal(7)). If the parent has blocked one of
    # these signals, only SIGKILL would end this process. Workers inherit the mask from it.
    # Ignored signals stay ignored, as under nohup.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINATION_SIGNALS)
    prepare_streams()
    try:
        try:
            _run()
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has gone. typer ends a command in this way too; without it, the
        # interpreter would try to write again at its exit.
        discard_output()
        sys.exit(1)
    except OSError as error:
        if not is_full(error):
            raise
        discard_output()
        _fail(f"cannot write: {error.strerror}")


def _run() -> None:
    arguments, path = _split_app(sys.argv[1:])
    command = arguments[:1]
    try:
        if command == ["serve"] and path is None:
            options = _plain_options(arguments[1:])
            if options is not None:
                _serve(options)
                return
        app = _command(command[0]) if command and command[0] in _COMMANDS else _list_of_commands()
        if path is not None:
            if command == ["serve"]:
                raise ConfigurationError(
                    "serve runs the service alone: run an application with uvicorn, and"
                    " --http authapi:HTTPProtocol"
                )
            from authapi.cli.application import select

            select(path)
        app(arguments, prog_name="authapi")
    except AuthAPIError as error:
        detail = getattr(error, "title", None) if not str(error) else str(error)
        hint = error.hint if isinstance(error, ConfigurationError) else None
        if isinstance(error, ConfigurationError) and hint is not None:
            detail = error.message or detail
        _fail(detail or type(error).__name__, hint=hint)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # A hook of an application may refuse a change as in a request. Nothing was written.
        if (detail := _http_detail(error)) is None:
            raise
        _fail(detail)


def _fail(message: str, *, hint: str | None = None) -> NoReturn:
    from authapi.cli.terminal.texts import printable

    print(f"authapi: {printable(message)}", file=sys.stderr)
    if hint is not None:
        print(f"hint: {printable(hint)}", file=sys.stderr)
    sys.exit(1)


def _plain_options(arguments: Sequence[str]) -> Mapping[str, str] | None:
    """Returns the options of `serve` by name; None if typer has to read them or to refuse them."""
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        name = option.removeprefix("--")
        if not equals:
            value = next(rest, "")
        if option == name or name not in _SERVE_OPTIONS or not value or value.startswith("-"):
            return None
        numbers = _SERVE_OPTIONS[name]
        if numbers is not None and not (value.isascii() and value.isdecimal()):
            return None
        if numbers is not None and (len(value) > 5 or int(value) not in numbers):
            return None
        found[name] = value
    return found


def _serve(options: Mapping[str, str]) -> None:
    from authapi.cli.serving.serve import serve

    numbers = {name: int(options[name]) for name in ("port", "workers") if name in options}
    serve(host=options.get("host"), port=numbers.get("port"), workers=numbers.get("workers"))


def _http_detail(error: Exception) -> str | None:
    """Returns the text of an HTTPException, without an import that takes a second."""
    module = sys.modules.get("starlette.exceptions")
    is_http = module is not None and isinstance(error, module.HTTPException)
    return str(error) if is_http else None


def _command(name: str) -> "typer.Typer":
    """Returns the command line with this command. Imports no other: the service takes a second."""
    application, module = _application(), import_module(f"authapi.cli.{_COMMANDS[name].module}")
    if hasattr(module, "app"):
        application.add_typer(module.app, name=name)
    else:
        application.command(name)(getattr(module, name))
    return application


def _list_of_commands() -> "typer.Typer":
    """Returns the command line with all commands, for its help, its completion and other names."""
    import typer
    from typer.core import TyperGroup

    class Listed(TyperGroup):
        def resolve_command(
            self, ctx: "Context", args: list[str]
        ) -> "tuple[str | None, Command | None, list[str]]":
            # Options before the command, such as `--`, or completion, have hidden its name from
            # `main`. Its module is imported now.
            name, command, rest = super().resolve_command(ctx, args)
            if name in _COMMANDS:
                group = typer.main.get_command(_command(name))
                command = group.get_command(ctx, name) if isinstance(group, TyperGroup) else None
            return name, command, rest

    application = _application(Listed)
    for name, listed in _COMMANDS.items():
        application.command(name, help=listed.help)(lambda: None)
    return application


def _application(kind: "type[TyperGroup] | None" = None) -> "typer.Typer":
    import typer
    from typer.core import TyperGroup

    class WithoutPrefix(kind or TyperGroup):  # type: ignore[misc]  # a class that is computed
        def invoke(self, ctx: "Context") -> object:
            try:
                return super().invoke(ctx)
            except typer.BadParameter as error:
                # The words of pydantic, by which typer reads values.
                error.message = error.message.removeprefix("Value error, ")
                raise

    def print_version(asked: bool) -> None:
        if asked:
            from authapi.services.monitoring.statistics import describe_version

            print(describe_version())
            raise typer.Exit

    def describe_app(
        _: Annotated[
            str | None,
            typer.Option(
                "--app",
                metavar="MODULE:NAME",
                help="Use the settings, hooks and engine of this AuthAPI. It precedes the command.",
            ),
        ] = None,
        __: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=print_version,
                is_eager=True,
                help="Print the versions of authapi, Python and the schema.",
            ),
        ] = False,
    ) -> None:
        # `main` has read the option before it imported the module of the command.
        return None

    return typer.Typer(
        name="authapi",
        cls=WithoutPrefix,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Run and administer authapi. Settings are AUTHAPI_* variables; see `authapi config`.",
        callback=describe_app,  # typer would make a single command the whole command line
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def _split_app(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Returns the arguments without a leading `--app`, and its value; None without it."""
    first, rest = arguments[:1], list(arguments[1:])
    if first == ["--app"]:
        return rest[1:], rest[0] if rest else ""
    if first and first[0].startswith("--app="):
        return rest, first[0].removeprefix("--app=")
    return list(arguments), None
