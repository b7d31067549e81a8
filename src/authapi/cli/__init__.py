"""The command line: one file a noun, and one way to fail: a line on stderr and an exit code."""

import sys

import typer

from authapi.cli import db, doctor, inspect, keys, mail, serve, webhooks
from authapi.cli.accounts import events, importing, passwords, sessions, tokens, users
from authapi.cli.running import printable
from authapi.errors import AuthAPIError

app = typer.Typer(
    name="authapi",
    help="Authentication as a service. Settings are AUTHAPI_* variables; see `authapi config`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(serve.serve)
app.add_typer(db.app, name="db")
users.app.command("import")(importing.import_users)
app.add_typer(users.app, name="users")
app.add_typer(sessions.app, name="sessions")
app.add_typer(tokens.app, name="tokens")
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
app.add_typer(mail.app, name="mail")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(passwords.app, name="passwords")
app.command("doctor")(doctor.doctor)
app.command("strategies")(inspect.strategies)
app.command("config")(inspect.config)
app.command("openapi")(inspect.openapi)


def main() -> None:
    """Run the command line. What can be expected to fail exits with 1 and one line on stderr."""
    try:
        app()
    except AuthAPIError as error:
        detail = getattr(error, "title", None) if not str(error) else str(error)
        print(f"authapi: {printable(detail or type(error).__name__)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
