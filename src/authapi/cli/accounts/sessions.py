"""`authapi sessions`: lists and ends logins and personal access tokens."""

from functools import partial
from typing import Annotated

import typer

from authapi.cli.accounts.live_sessions import (
    BeforeOption,
    LimitOption,
    print_live,
)
from authapi.cli.accounts.restores import end_all
from authapi.cli.services import find_user, parse_id, run_with_services
from authapi.cli.terminal.options import JSONOption, PlainOption, YesOption
from authapi.cli.terminal.progress import Progress
from authapi.cli.terminal.questions import confirm
from authapi.cli.terminal.texts import printable
from authapi.domain.monitoring.wording import pluralize
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.jobs.pruning import watch_pruning

app = typer.Typer(help="List and end logins and personal access tokens.", no_args_is_help=True)


@app.command("list")
def list_sessions(
    user: Annotated[
        str | None, typer.Argument(metavar="USER", help="E-mail address, user name or id.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Those of all users.")] = False,
    before: BeforeOption = None,
    limit: LimitOption = None,
    plain: PlainOption = False,
    as_json: JSONOption = False,
) -> None:
    """List the active logins and personal access tokens of a user, or of all, newest first."""
    if (user is None) != every:
        raise ConfigurationError("give either a user or --all")
    print_live(
        user,
        personal=None,
        before=before,
        limit=limit,
        empty="No active logins or tokens.",
        plain=plain,
        as_json=as_json,
    )


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
        confirm(f"This ends {_described(user)}")

    async def work(services: Services) -> int:
        if user is not None:
            owner = await find_user(services, user)
            return await services.accounts.administration.end_sessions(owner.id)
        return await services.sessions.end(parse_id(session or ""))

    print(f"Ended: {run_with_services(work)}")


@app.command()
def prune() -> None:
    """Delete sessions that ended at least one hour ago from the database."""

    async def work(services: Services) -> int:
        with Progress() as progress, watch_pruning(progress.show_rows):
            return await services.sessions.prune()

    print(f"Removed: {run_with_services(work)}")


def _described(user: str) -> str:
    return run_with_services(partial(describe_sessions, text=user), keys="locked")


async def describe_sessions(services: Services, text: str) -> str:
    """Describes how many sessions and personal access tokens a user has, for a question."""
    owner = await find_user(services, text)
    logins = await services.sessions.list_for_user(owner.id)
    tokens = await services.tokens.personal.list_of(owner.id)
    counts = pluralize(len(logins), "session"), pluralize(len(tokens), "personal access token")
    return f"{' and '.join(counts)} of {printable(owner.email)}"
