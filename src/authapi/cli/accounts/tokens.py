"""`authapi tokens`: personal access tokens."""

from datetime import timedelta
from typing import Annotated

import typer

from authapi.cli.running import (
    JSONOption,
    UserArgument,
    find_user,
    parse_name,
    print_one,
    with_services,
)
from authapi.clock import now
from authapi.identity import Identity, Session
from authapi.services import Services
from authapi.services.scopes import existing_scopes, scopes_of_login
from authapi.settings.durations import parse_duration

app = typer.Typer(help="Personal access tokens.", no_args_is_help=True)

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(seconds=10**10)


def _lifetime(text: str) -> timedelta:
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not _SHORTEST <= found <= _LONGEST:
        raise typer.BadParameter("must be at least a second, and at most 10000000000 seconds")
    return found


@app.command()
def create(
    user: UserArgument,
    name: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="Repeatable; without, all.")] = None,
    expires_in: Annotated[
        timedelta | None,
        typer.Option(parser=_lifetime, metavar="TIME", help="Seconds, or like 90s, 1h, 14d."),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Make a personal access token for a user. Its secret is printed this once."""
    checked = parse_name(name, longest=100)

    async def work(services: Services) -> tuple[Session, str]:
        holder = await find_user(services, user)
        # An operator may give whatever there is, and by default what a login of theirs holds.
        scopes = scopes_of_login(holder, services.settings)
        if scope:
            scopes = frozenset(existing_scopes(services.settings))
        owner = Identity(
            user=holder,
            strategy="cli",
            session_id=None,
            scopes=scopes,
            auth_time=now(),
            amr=(),
            expires_at=None,
        )
        return await services.tokens.create(
            owner,
            name=checked,
            scopes=scope,
            lifetime=expires_in,
        )

    token, secret = with_services(work)
    row: dict[str, object] = {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes or ()),
    }
    row |= {"expires_at": token.expires_at, "access_token": secret}
    print_one(row, as_json=as_json)
