"""`authapi tokens`: creates, lists and ends personal access tokens."""

import sys
from datetime import timedelta
from typing import Annotated

import typer

from authapi.cli.accounts.live_sessions import (
    BeforeOption,
    LimitOption,
    print_live,
)
from authapi.cli.application import settings_of
from authapi.cli.services import UserArgument, find_user, parse_id, parse_name, run_with_services
from authapi.cli.terminal.options import JSONOption, PlainOption
from authapi.cli.terminal.tables import print_one
from authapi.clock import now
from authapi.domain.identity import Identity
from authapi.domain.scopes import effective_scopes, supported_scopes
from authapi.domain.session import Session
from authapi.services import Services
from authapi.settings.values.durations import parse_duration

app = typer.Typer(help="Create, list and end personal access tokens.", no_args_is_help=True)

_MIN_LIFETIME, _MAX_LIFETIME = timedelta(seconds=1), timedelta(seconds=10**10)


def _parse_lifetime(text: str) -> timedelta:
    try:
        lifetime = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not _MIN_LIFETIME <= lifetime <= _MAX_LIFETIME:
        raise typer.BadParameter("must be from 1 to 10000000000 seconds")
    return lifetime


@app.command()
def create(
    user: UserArgument,
    name: Annotated[str, typer.Option(help="Name of the token.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="Scope; repeatable. Default: all.")
    ] = None,
    expires_in: Annotated[
        timedelta | None,
        typer.Option(
            parser=_parse_lifetime, metavar="TIME", help="Lifetime: seconds, or like 90s, 1h, 14d."
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Create a personal access token for a user. Its secret is printed only once."""
    token_name = parse_name(name, max_length=100)

    async def work(services: Services) -> tuple[Session, str]:
        holder = await find_user(services, user)
        # By default the scopes of a login of the user. An operator may grant every existing scope.
        own = await services.hooks.own_scopes(holder)
        scopes = effective_scopes(None, holder, services.settings, own, amr=())
        if scope:
            scopes = scopes.union(supported_scopes(services.settings))
        owner = Identity(
            user=holder,
            strategy="cli",
            session_id=None,
            scopes=scopes,
            auth_time=now(),
            amr=(),
            expires_at=None,
        )
        return await services.tokens.personal.create(
            owner,
            name=token_name,
            scopes=scope,
            lifetime=expires_in,
        )

    token, secret = run_with_services(work)
    if "token" not in settings_of().strategies:
        print(
            "AUTHAPI_STRATEGIES lacks token, the strategy that accepts personal access tokens",
            file=sys.stderr,
        )
    row: dict[str, object] = {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes or ()),
    }
    row |= {"expires_at": token.expires_at, "access_token": secret}
    print_one(row, as_json=as_json)


@app.command("list")
def list_tokens(
    user: Annotated[
        str | None,
        typer.Argument(metavar="USER", help="E-mail address, user name or id; default: all users."),
    ] = None,
    before: BeforeOption = None,
    limit: LimitOption = None,
    plain: PlainOption = False,
    as_json: JSONOption = False,
) -> None:
    """List personal access tokens that have not expired, newest first."""
    print_live(
        user,
        personal=True,
        before=before,
        limit=limit,
        empty="No personal access tokens.",
        plain=plain,
        as_json=as_json,
    )


@app.command()
def end(token: Annotated[str, typer.Argument(help="Id of the token.")]) -> None:
    """End a personal access token. A login has another id: see `authapi sessions end`."""
    token_id = parse_id(token)

    async def work(services: Services) -> int:
        if not await services.tokens.personal.exists(token_id):
            return 0
        return await services.sessions.end(token_id)

    print(f"Ended: {run_with_services(work)}")
