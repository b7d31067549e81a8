"""`authapi secret`: creates the secret of an installation."""

import secrets

import typer

app = typer.Typer(help="Create a value for AUTHAPI_SECRET.", no_args_is_help=True)

_BYTES = 32


@app.callback()
def _group() -> None:
    """Makes `new` a command also while it is the only one."""


@app.command()
def new() -> None:
    """Print a new random value for AUTHAPI_SECRET. It is stored nowhere."""
    print(secrets.token_hex(_BYTES))
