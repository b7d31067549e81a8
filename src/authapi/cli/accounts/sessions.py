"""`authapi sessions`: logins and tokens that are alive."""

from functools import partial
from typing import Annotated

import typer

from authapi.cli.confirming import YesOption, confirm, counted
from authapi.cli.running import (
    JSONOption,
    UserArgument,
    find_user,
    parse_id,
    print_rows,
    printable,
    with_services,
)
from authapi.errors import ConfigurationError
from authapi.identity import Session
from authapi.services import Services
from authapi.services.scopes import effective_scopes

app = typer.Typer(help="Logins and tokens that are alive.", no_args_is_help=True)


@app.command("list")
def list_sessions(user: UserArgument, as_json: JSONOption = False) -> None:
    """List the logins and personal access tokens of a user, the newest first."""

    async def work(services: Services) -> list[dict[str, object]]:
        owner = await find_user(services, user)
        logins = await services.sessions.list_of(owner.id)
        found = [*logins, *await services.tokens.list_of(owner.id)]
        settings = services.settings
        return [_row(it, effective_scopes(it.scopes, owner, settings)) for it in found]

    print_rows(with_services(work), as_json=as_json)


@app.command()
def end(
    session: Annotated[str | None, typer.Argument(help="The id of one session or token.")] = None,
    user: Annotated[str | None, typer.Option(help="End everything of this user.")] = None,
    yes: YesOption = False,
) -> None:
    """End one session or token, or everything of a user. Asks before it ends everything."""
    if (session is None) == (user is None):
        raise ConfigurationError("name one session, or --user")
    if user is not None and not yes:
        confirm(f"This ends {with_services(partial(held_by, text=user))}")

    async def work(services: Services) -> int:
        if user is not None:
            owner = await find_user(services, user)
            return await services.administration.end_sessions(owner.id)
        return await services.sessions.end(parse_id(session or ""))

    print(f"Ended: {with_services(work)}")


@app.command()
def prune() -> None:
    """Remove the rows of sessions that ended an hour ago or longer."""
    print(f"Removed: {with_services(lambda services: services.sessions.prune())}")


async def held_by(services: Services, text: str) -> str:
    """How many logins and personal access tokens a user has, in words."""
    owner = await find_user(services, text)
    logins = await services.sessions.list_of(owner.id)
    tokens = await services.tokens.list_of(owner.id)
    words = counted(len(logins), "session"), counted(len(tokens), "personal access token")
    return f"{' and '.join(words)} of {printable(owner.email)}"


def _row(session: Session, scopes: frozenset[str]) -> dict[str, object]:
    return {
        "id": session.id,
        "kind": session.kind.value,
        "name": session.name,
        "scopes": sorted(scopes),
        "created_at": session.created_at,
        "last_seen_at": session.last_seen_at,
        "expires_at": session.expires_at,
        "ip": session.client.ip,
        "user_agent": session.client.user_agent,
    }
