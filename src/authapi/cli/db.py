"""`authapi db`: manages the database schema."""

import sys
from time import monotonic
from typing import Annotated

import typer

from authapi.cli.application import settings_of
from authapi.cli.terminal.options import YesOption
from authapi.cli.terminal.progress import waiting
from authapi.cli.terminal.questions import confirm_by_name
from authapi.cli.terminal.texts import printable
from authapi.domain.monitoring.wording import pluralize
from authapi.errors import ConfigurationError
from authapi.services.keys.secret import prepare_data_dir
from authapi.storage import migrations
from authapi.storage.names import TableNames

app = typer.Typer(help="Manage the database schema.", no_args_is_help=True)

_LONG = 10.0
"""Seconds."""

Revision = Annotated[
    str, typer.Argument(help="A revision, `head`, `base`, or -1 for the previous one.")
]


@app.command()
def upgrade(revision: Revision = "head") -> None:
    """Upgrade the schema to a revision, by default the newest."""
    url, names = _place()
    with waiting("Migrating the schema"):
        migrations.upgrade(url, revision, names=names, on_step=_Steps())
    print(f"The schema is at {migrations.current(url, names=names) or 'nothing'}.")


@app.command(context_settings={"ignore_unknown_options": True})
def downgrade(
    revision: Revision,
    yes: YesOption = False,
    destroy: Annotated[
        bool, typer.Option("--destroy", help="Permit `base` in production: it removes everything.")
    ] = False,
) -> None:
    """Downgrade the schema to a revision. Data that only newer revisions have is lost.

    On a terminal, the name of the database confirms it.
    """
    url, names = _place()
    plan = migrations.downgrade_plan(url, revision, names=names)
    if plan.steps and plan.target is None and not destroy and settings_of().env == "production":
        raise ConfigurationError(
            "this removes all data of a production database", hint="add --destroy"
        )
    if not yes:
        _confirm(plan)
    with waiting("Migrating the schema"):
        migrations.downgrade(url, revision, names=names, on_step=_Steps())
    print(f"The schema is at {migrations.current(url, names=names) or 'nothing'}.")


@app.command()
def current() -> None:
    """Print the current revision of the database, and which code may run beside it."""
    url, names = _place()
    revision = migrations.current(url, names=names)
    print(revision or "nothing")
    if revision is not None and (oldest := migrations.oldest_code(revision)) != revision:
        # Scripts read the revision from standard output.
        print(f"Code from {oldest} on may run beside it.", file=sys.stderr)


@app.command()
def check() -> None:
    """Check that the schema is exactly that of this version. Exit with 1 if not."""
    url, names = _place()
    migrations.check(url, names=names)
    print(f"The schema is at {migrations.head()} and matches this version.")


def _confirm(plan: migrations.DowngradePlan) -> None:
    if not plan.steps:
        return
    contents = [
        pluralize(plan.rows.get("users", 0), "account"),
        pluralize(plan.rows.get("sessions", 0), "session or token", "sessions and tokens"),
        pluralize(plan.rows.get("events", 0), "event"),
    ]
    lost = f"the data that the last {pluralize(len(plan.steps), 'revision')} added"
    if plan.target is None:
        lost = "all of it"
    what = (
        f"This downgrades the schema from {plan.current} to {plan.target or 'nothing'} of the"
        f" database {printable(plan.database)} with {', '.join(contents)}, and removes {lost}"
    )
    confirm_by_name(what, plan.database)


class _Steps:
    """Prints each migration with its time, such as `0006 -> 0007 add roles ... done 1.2 s`.

    Without a terminal, only those that take long.
    """

    def __init__(self) -> None:
        self._began = monotonic()

    def __call__(self, step: migrations.Step) -> None:
        took, self._began = monotonic() - self._began, monotonic()
        if took < _LONG and not (sys.stderr is not None and sys.stderr.isatty()):
            return
        revisions = f"{step.before or 'nothing'} -> {step.after or 'nothing'}"
        print(f"{revisions} {step.text} ... done {took:.1f} s", file=sys.stderr)


def _place() -> tuple[str, TableNames]:
    settings = settings_of()
    if settings.database_url is None:
        prepare_data_dir(settings.data_dir)
    return settings.resolved_direct_url, TableNames.of(settings)
