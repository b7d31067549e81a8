"""`authapi keys`: manages the keys that sign JWTs."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from authapi.cli.application import settings_of
from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption, PlainOption, YesOption
from authapi.cli.terminal.questions import confirm
from authapi.cli.terminal.tables import print_list, print_one
from authapi.domain.monitoring.wording import pluralize
from authapi.domain.signing_key import StoredKey
from authapi.errors import ConfigurationError, KeyNotPublished, NotFound
from authapi.services import Services
from authapi.settings import MIN_SECRET_LENGTH

app = typer.Typer(help="Manage the keys that sign JWTs.", no_args_is_help=True)


@app.command("list")
def list_keys(plain: PlainOption = False, as_json: JSONOption = False) -> None:
    """List the keys, oldest first. States: next (published), active (signs), retired."""
    rows = [_row(key) for key in _stored_keys()]
    print_list(rows, empty="No keys yet.", as_json=as_json, plain=plain)


@app.command()
def rotate(
    early: Annotated[
        bool,
        typer.Option("--early", help="Rotate even if verifiers may not have the next key yet."),
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Sign with the next key from now on. JWTs of the previous key stay valid until they expire."""

    async def work(services: Services) -> StoredKey:
        try:
            return await services.keys.rotate(early=early)
        except KeyNotPublished as refusal:
            raise ConfigurationError(str(refusal), hint="wait, or use --early") from None

    key = run_with_services(work)
    print_one({"kid": key.kid, "algorithm": key.algorithm}, as_json=as_json)


@app.command()
def retire(
    kid: Annotated[
        str | None, typer.Argument(help="The kid of the key, as `list` prints it.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Retire every key, for example if AUTHAPI_SECRET is lost.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Retire a key at once. Every process rejects the JWTs that it signed.

    Retiring all keys asks for confirmation.
    """
    if (kid is None) != every:
        raise ConfigurationError("give either a key or --all")
    if every and not yes:
        count = sum(key.state.value != "retired" for key in _stored_keys())
        confirm(f"This retires {pluralize(count, 'key')}. All JWTs signed with them are rejected")

    async def work(services: Services) -> int:
        if kid is None:
            return await services.keys.lifecycle.retire_all()
        try:
            await services.keys.lifecycle.retire(kid)
        except NotFound:
            raise ConfigurationError("key not found", hint="see `authapi keys list`") from None
        return 1

    print(f"Retired: {run_with_services(work, keys='unlocked')}")


@app.command()
def rewrap() -> None:
    """Encrypt the keys with a new secret, read from standard input. JWTs stay valid.

    Then restart every process with the new secret. Running processes continue until then. With
    AUTHAPI_SECRET_PREVIOUS, the new secret is AUTHAPI_SECRET.
    """
    if settings_of().secret_previous is not None:
        rows = run_with_services(lambda it: it.keys.lifecycle.finish_change(), keys="unlocked")
        print(f"Encrypted: {rows}. Repeat until it is 0, then remove AUTHAPI_SECRET_PREVIOUS.")
        return
    if sys.stdin.isatty():
        typer.echo("Enter the new secret:", err=True)
    secret = sys.stdin.readline().rstrip("\r\n")
    if len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(
            f"the new secret must have at least {MIN_SECRET_LENGTH} characters"
        )

    async def work(services: Services) -> int:
        return await services.keys.lifecycle.rewrap(secret.encode())

    count = run_with_services(work, keys="unlocked")
    print(f"Encrypted: {count}. Restart every process with the new AUTHAPI_SECRET now.")


def _stored_keys() -> Sequence[StoredKey]:
    return run_with_services(lambda services: services.keys.list_stored(), keys="locked")


def _row(key: StoredKey) -> dict[str, object]:
    return {
        "kid": key.kid,
        "algorithm": key.algorithm,
        "state": key.state.value,
        "created_at": key.created_at,
        "activated_at": key.activated_at,
        "retired_at": key.retired_at,
        "published_until": key.published_until,
    }
