"""`authapi sessions`: lists and ends logins and personal access tokens."""

from functools import partial
from typing import Annotated

import typer

from authapi.cli.accounts.restores import end_all
from authapi.cli.services import UserArgument, find_user, parse_id, run_with_services
from authapi.cli.terminal import JSONOption, YesOption, confirm, print_rows, printable
from authapi.domain.monitoring.wording import pluralize
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session
from authapi.errors import ConfigurationError
from authapi.services import Services

app = typer.Typer(help="List and end logins and personal access tokens.", no_args_is_help=True)


@app.command("list")
def list_sessions(user: UserArgument, as_json: JSONOption = False) -> None:
    """List the active logins and personal access tokens of a user, newest first."""

    async def work(services: Services) -> list[dict[str, object]]:
        owner = await find_user(services, user)
        logins = await services.sessions.list_for_user(owner.id)
        sessions = [*logins, *await services.tokens.personal.list_of(owner.id)]
        settings, own = services.settings, await services.hooks.own_scopes(owner)
        return [
            _row(
                session,
                effective_scopes(session.scopes, owner, settings, own, amr=session.amr),
            )
            for session in sessions
        ]

    print_rows(run_with_services(work), as_json=as_json)


@app.command()
def end(
    session: Annotated[str | None, typer.Argument(help="Id of a session or token.")] = None,
    user: Annotated[str | None, typer.Option(help="End all of this user.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="End all of all users, links in mails too.")
    ] = False,
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --all: those created before.")
    ] = None,
    keep_tokens: Annotated[
        bool, typer.Option("--keep-tokens", help="With --all: keep personal access tokens.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """End one session or token, all of a user, or all. Ending several asks for confirmation."""
    if (session is not None) + (user is not None) + everything != 1:
        raise ConfigurationError("give either a session or --user or --all")
    if (before is not None or keep_tokens) and not everything:
        raise ConfigurationError("--before and --keep-tokens need --all")
    if everything:
        end_all(before=before, keep_tokens=keep_tokens, yes=yes)
        return
    if user is not None and not yes:
        confirm(f"This ends {run_with_services(partial(describe_sessions, text=user))}")

    async def work(services: Services) -> int:
        if user is not None:
            owner = await find_user(services, user)
            return await services.accounts.administration.end_sessions(owner.id)
        return await services.sessions.end(parse_id(session or ""))

    print(f"Ended: {run_with_services(work)}")


@app.command()
def prune() -> None:
    """Delete sessions that ended at least one hour ago from the database."""
    print(f"Removed: {run_with_services(lambda services: services.sessions.prune())}")


async def describe_sessions(services: Services, text: str) -> str:
    """Describes how many sessions and personal access tokens a user has, for a question."""
    owner = await find_user(services, text)
    logins = await services.sessions.list_for_user(owner.id)
    tokens = await services.tokens.personal.list_of(owner.id)
    counts = pluralize(len(logins), "session"), pluralize(len(tokens), "personal access token")
    return f"{' and '.join(counts)} of {printable(owner.email)}"


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
