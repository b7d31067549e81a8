"""`authapi db`: the schema."""

from typing import Annotated

import typer

from authapi.cli.confirming import YesOption, confirm, counted
from authapi.services.keys import prepare_data_dir
from authapi.settings import load_settings
from authapi.storage import migrations

app = typer.Typer(help="The database schema.", no_args_is_help=True)

Revision = Annotated[str, typer.Argument(help="A revision, `head`, `base`, or -1 for one back.")]


@app.command()
def upgrade(revision: Revision = "head") -> None:
    """Bring the schema up to a revision, by default the newest."""
    url = _url()
    migrations.upgrade(url, revision)
    print(f"The schema is at {migrations.current(url) or 'nothing'}.")


@app.command(context_settings={"ignore_unknown_options": True})
def downgrade(revision: Revision, yes: YesOption = False) -> None:
    """Bring the schema down to a revision. What only newer ones hold is lost."""
    url = _url()
    if not yes:
        _confirm(migrations.downgrade_plan(url, revision))
    migrations.downgrade(url, revision)
    print(f"The schema is at {migrations.current(url) or 'nothing'}.")


@app.command()
def current() -> None:
    """Print the revision that the database is at."""
    print(migrations.current(_url()) or "nothing")


@app.command()
def check() -> None:
    """Exit with 0 if the database has exactly the tables that this version needs."""
    migrations.check(_url())
    print(f"The schema is at {migrations.head()} and fits.")


def _confirm(plan: migrations.DowngradePlan) -> None:
    if not plan.steps:
        return
    held = [
        counted(plan.rows.get("users", 0), "account"),
        counted(plan.rows.get("sessions", 0), "session or token", "sessions and tokens"),
        counted(plan.rows.get("events", 0), "event"),
    ]
    lost = f"what only these {counted(len(plan.steps), 'revision')} hold"
    if plan.target is None:
        lost = "all of that"
    confirm(
        f"This takes the schema from {plan.current} to {plan.target or 'nothing'} in a database"
        f" with {', '.join(held)}, and removes {lost}"
    )


def _url() -> str:
    settings = load_settings()
    if settings.database_url is None:
        prepare_data_dir(settings.data_dir)
    return settings.resolved_database_url
