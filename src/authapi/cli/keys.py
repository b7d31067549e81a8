"""`authapi keys`: the keys that sign JWTs."""

import sys
from typing import Annotated

import typer

from authapi.cli.confirming import YesOption, confirm, counted
from authapi.cli.running import JSONOption, print_one, print_rows, with_services
from authapi.errors import ConfigurationError, NotFound
from authapi.services import Services
from authapi.settings import MIN_SECRET_LENGTH
from authapi.storage.tables.signing_keys import StoredKey

app = typer.Typer(help="The keys that sign JWTs.", no_args_is_help=True)


@app.command("list")
def list_keys(as_json: JSONOption = False) -> None:
    """List the keys, the oldest first: next is published and waits, active signs, retired did."""
    print_rows([_row(key) for key in with_services(_keys, keys="locked")], as_json=as_json)


@app.command()
def rotate(
    early: Annotated[
        bool, typer.Option("--early", help="Also if verifiers may not know the next key yet.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Let the next key sign. What the one before has signed is good until it ends."""
    key = with_services(lambda services: services.keys.rotate(early=early))
    print_one({"kid": key.kid, "algorithm": key.algorithm}, as_json=as_json)


@app.command()
def retire(
    kid: Annotated[str | None, typer.Argument(help="The key, as `list` names it.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every key, for when the secret is lost.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """End a key at once: what it has signed is refused from now on, on every process.

    Asks before it ends all of them.
    """
    if (kid is None) != every:
        raise ConfigurationError("name one key, or --all")
    if every and not yes:
        count = sum(key.state.value != "retired" for key in with_services(_keys, keys="locked"))
        confirm(
            f"This retires {counted(count, 'key')}, and every JWT that was signed before is refused"
        )

    async def work(services: Services) -> int:
        if kid is None:
            return await services.keys.lifecycle.discard()
        try:
            await services.keys.lifecycle.retire(kid)
        except NotFound:
            raise ConfigurationError("there is no such key: see `authapi keys list`") from None
        return 1

    print(f"Retired: {with_services(work, keys='unlocked')}")


@app.command()
def rewrap() -> None:
    """Seal the keys under another secret, read from standard input; nothing that they signed ends.

    Afterwards start every process with that secret. Those that run go on until then.
    """
    if sys.stdin.isatty():
        typer.echo("The new secret, then Enter:", err=True)
    secret = sys.stdin.readline().rstrip("\r\n")
    if len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(
            f"the new secret must have at least {MIN_SECRET_LENGTH} characters"
        )

    async def work(services: Services) -> int:
        return await services.keys.lifecycle.rewrap(secret.encode())

    count = with_services(work, keys="unlocked")
    print(f"Sealed anew: {count}. Start every process with the new AUTHAPI_SECRET now.")


async def _keys(services: Services) -> list[StoredKey]:
    async with services.database.read() as store:
        return list(await store.signing_keys.all())


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
